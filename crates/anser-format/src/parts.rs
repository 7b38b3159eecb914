//! Finding all files of a model on disk, from the path of one of them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use crate::bytes::FileBytes;
use crate::error::FormatError;
use crate::file::{FileKind, ModelFile, ReadPart};
use crate::folder;
use crate::gguf::split::{MAX_PARTS, Split};
use crate::mmap::{Copied, Mapping};
use crate::shards::{MAX_INDEX_N_BYTES, ShardIndex};
use crate::sniff::{HEAD_N_BYTES, Sniffed, sniff};

/// How the bytes of files are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Mapped: pages are read when they are needed.
    Map,
    /// Copied into memory of the process.
    Read,
}

/// The name of an index that lists shards under names without numbers, too.
pub(crate) const USUAL_INDEX: &str = "model.safetensors.index.json";

/// What the name of an index ends in.
const INDEX_ENDING: &str = ".index.json";

/// Opens the model that the file at `path` is, or is a part or the index of, or that lies in the folder at `path`.
pub(crate) fn open(path: &Path, access: Access) -> Result<Arc<ModelFile>, FormatError> {
    if path.is_dir() {
        let model = folder::model_in(path)?;
        let mut parts = all_parts(&model, access)?;
        folder::add_settings(&model, &mut parts)?;
        return ModelFile::assemble(shown(path), parts);
    }
    let mut parts = all_parts(path, access)?;
    if folder::has_usual_name(path) {
        // Without its settings a model would be computed with other epsilons, so settings that cannot be read are an error here, too.
        folder::add_settings(path, &mut parts)?;
    }
    ModelFile::assemble(shown(path), parts)
}

/// The parts of the model that the file at `path` is, or is a part or the index of.
fn all_parts(path: &Path, access: Access) -> Result<Vec<ReadPart>, FormatError> {
    if let Some(index) = as_index(path)? {
        return shards(path, &index, None, access);
    }
    let first = ReadPart::new(shown(path), load(path, access)?)?;
    let parts = match first.parsed.kind {
        FileKind::Gguf { .. } => gguf_parts(path, first, access)?,
        FileKind::Safetensors => match index_beside(path)? {
            Some(index) => shards(path, &index, Some(first), access)?,
            None => match numbered(path).filter(|name| name.count > 1) {
                Some(name) => numbered_parts(path, first, &name, access)?,
                None => vec![first],
            },
        },
        FileKind::Torch(_) => vec![first],
    };
    Ok(parts)
}

/// The bytes of the file at `path`.
fn load(path: &Path, access: Access) -> Result<FileBytes, FormatError> {
    let io = |source| FormatError::Io { file: shown(path), source };
    let refuse = |found, advice| Err(FormatError::NotAModel { file: shown(path), found, advice });
    // Asked before opening: opening a named pipe would wait for a writer.
    let kind = std::fs::metadata(path).map_err(io)?.file_type();
    if kind.is_dir() {
        return refuse("a directory", "a file is needed here");
    }
    if !kind.is_file() {
        return refuse("a device, socket or pipe", "a model must be a regular file");
    }
    let mut file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.len() == 0 {
        return Ok(FileBytes::Static(&[])); // Not every system maps an empty file.
    }
    match access {
        Access::Map => Ok(FileBytes::Mapped(Mapping::new(file).map_err(io)?)),
        Access::Read => {
            // A look at the beginning, so that gigabytes of something else are not read.
            let mut head = vec![];
            file.by_ref().take(HEAD_N_BYTES as u64).read_to_end(&mut head).map_err(io)?;
            if let Sniffed::Other { found, advice } = sniff(&head) {
                return refuse(found, advice);
            }
            io::Seek::rewind(&mut file).map_err(io)?;
            Ok(FileBytes::Read(Copied::new(file).map_err(io)?))
        }
    }
}

/// A part beside the one at `path`; a missing one is told with its number.
fn load_beside(
    path: &Path,
    file_name: &str,
    [number, count]: [usize; 2],
    access: Access,
) -> Result<ReadPart, FormatError> {
    let part = path.with_file_name(file_name);
    match load(&part, access) {
        Ok(bytes) => ReadPart::new(shown(&part), bytes),
        Err(FormatError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(FormatError::MissingPart { file: shown(path), part: shown(&part), number, count })
        }
        Err(error) => Err(error),
    }
}

/// All parts of the GGUF model that `first`, the file at `path`, belongs to.
fn gguf_parts(path: &Path, first: ReadPart, access: Access) -> Result<Vec<ReadPart>, FormatError> {
    let Some(split) = Split::of(&first)? else { return Ok(vec![first]) };
    let (number, count) = (split.number + 1, split.count);
    match numbered(path) {
        Some(name) if (name.number, name.count) == (number, count) => numbered_parts(path, first, &name, access),
        _ => Err(FormatError::Header {
            file: shown(path),
            item: "the name of the file".to_owned(),
            problem: format!(
                "it is part {number} of a model in {count} files, so its name must end in \
                 -{number:05}-of-{count:05}.gguf and the others must lie beside it; give it that name"
            ),
        }),
    }
}

/// All parts with numbered names; `first` is the one at `path`, which is called `name`.
fn numbered_parts(
    path: &Path,
    first: ReadPart,
    name: &NumberedName,
    access: Access,
) -> Result<Vec<ReadPart>, FormatError> {
    let mut first = Some(first);
    let load = |number| match first.take_if(|_| number == name.number) {
        Some(part) => Ok(part),
        None => load_beside(path, &name.nth(number), [number, name.count], access),
    };
    (1..=name.count).map(load).collect()
}

/// The shards that `index` lists, which lie beside `path`; `first` is the one at `path` if that is a shard.
fn shards(
    path: &Path,
    index: &ShardIndex,
    mut first: Option<ReadPart>,
    access: Access,
) -> Result<Vec<ReadPart>, FormatError> {
    let own_name = path.file_name();
    let names = index.file_names();
    let load = |(at, name): (usize, &&str)| match first.take_if(|_| own_name == Some(name.as_ref())) {
        Some(part) => Ok(part),
        None => load_beside(path, name, [at + 1, names.len()], access),
    };
    let parts = names.iter().enumerate().map(load).collect::<Result<Vec<_>, _>>()?;
    index.check(&parts)?;
    Ok(parts)
}

/// The index in the file at `path`, if its name says that it is one.
fn as_index(path: &Path) -> Result<Option<ShardIndex>, FormatError> {
    let is_named = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(INDEX_ENDING));
    if !is_named || !path.is_file() {
        return Ok(None);
    }
    let io = |source| FormatError::Io { file: shown(path), source };
    let mut bytes = vec![];
    let file = File::open(path).map_err(io)?;
    file.take(MAX_INDEX_N_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    match sniff(&bytes) {
        Sniffed::Gguf | Sniffed::Safetensors | Sniffed::Zip | Sniffed::TorchLegacy => Ok(None),
        Sniffed::Other { .. } => ShardIndex::parse(&shown(path), &bytes).map(Some),
    }
}

/// The index that lies beside the safetensors file at `path` and lists it.
fn index_beside(path: &Path) -> Result<Option<ShardIndex>, FormatError> {
    let Some(file_name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(None) };
    let lists = |index: &ShardIndex| index.file_names().contains(file_name);
    if let Some(name) = numbered(path) {
        let index = as_index(&path.with_file_name(format!("{}.{}{INDEX_ENDING}", name.stem, name.extension)))?;
        if let Some(index) = index.filter(lists) {
            return Ok(Some(index));
        }
    }
    // An index of the usual name that cannot be read may be another model's.
    let usual = as_index(&path.with_file_name(USUAL_INDEX)).ok().flatten();
    Ok(usual.filter(lists))
}

/// A file name of the form `STEM-00001-of-00003.EXTENSION`.
struct NumberedName {
    stem: String,
    /// From 1.
    number: usize,
    count: usize,
    extension: String,
}

impl NumberedName {
    fn parse(file_name: &str) -> Option<NumberedName> {
        let (name, extension) = file_name.rsplit_once('.')?;
        let (name, count) = name.rsplit_once("-of-")?;
        let (stem, number) = name.rsplit_once('-')?;
        let digits = |text: &str| {
            let is_number = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<usize>().ok().filter(|_| is_number)
        };
        let (number, count) = (digits(number)?, digits(count)?);
        let is_part = (1..=count).contains(&number) && count <= MAX_PARTS;
        is_part.then(|| NumberedName { stem: stem.into(), number, count, extension: extension.into() })
    }

    /// The file name of part `number`, from 1.
    fn nth(&self, number: usize) -> String {
        format!("{}-{number:05}-of-{:05}.{}", self.stem, self.count, self.extension)
    }
}

fn numbered(path: &Path) -> Option<NumberedName> {
    NumberedName::parse(path.file_name()?.to_str()?)
}

pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_names_are_those_with_five_digits() {
        let name = NumberedName::parse("a-b-00002-of-00012.gguf").unwrap();
        assert_eq!((name.stem.as_str(), name.number, name.count), ("a-b", 2, 12));
        assert_eq!(name.nth(7), "a-b-00007-of-00012.gguf");
        let others =
            ["a.gguf", "a-2-of-12.gguf", "a-00000-of-00002.gguf", "a-00003-of-00002.gguf", "a-0000x-of-00002.gguf"];
        for other in others.into_iter().chain(["a-00001-of-99999.gguf", "00001-of-00002.gguf", "a-+0001-of-00002.gguf"])
        {
            assert!(NumberedName::parse(other).is_none(), "{other}");
        }
    }
}
