//! A GGUF model in several files: `STEM-00001-of-00003.gguf` and so on, side by side.
//!
//! Every file is a GGUF file of its own with the metadata keys `split.no` (from 0), `split.count` and
//! `split.tensors.count` (of all files). The first one has all other metadata; it may have no tensors.

use crate::error::FormatError;
use crate::file::{FileKind, ReadPart};
use crate::metadata::MetaValue;

const NUMBER_KEY: &str = "split.no";
const COUNT_KEY: &str = "split.count";
const N_TENSORS_KEY: &str = "split.tensors.count";

/// The most parts of a model: each of them is an open file.
pub(crate) const MAX_PARTS: usize = 1024;

/// Which part of a model a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// From 0.
    pub(crate) number: usize,
    pub(crate) count: usize,
    /// Tensors of all parts, where the file says it.
    n_tensors: Option<usize>,
}

impl Split {
    /// What the metadata of `part` say; `None` for a model in one file.
    pub(crate) fn of(part: &ReadPart) -> Result<Option<Split>, FormatError> {
        let Some(count) = number(part, COUNT_KEY)? else { return Ok(None) };
        if count > MAX_PARTS {
            return Err(invalid(part, COUNT_KEY, format!("{count}, but a model has at most {MAX_PARTS} parts")));
        }
        // Some programs write 0 or 1 into a model that was never split.
        if count <= 1 {
            return Ok(None);
        }
        let n_tensors = number(part, N_TENSORS_KEY)?;
        match number(part, NUMBER_KEY)? {
            Some(number) if number < count => Ok(Some(Split { number, count, n_tensors })),
            Some(number) => {
                Err(invalid(part, NUMBER_KEY, format!("{number}, but the {count} parts are numbered from 0")))
            }
            None => Err(invalid(part, NUMBER_KEY, format!("it is missing in a model of {count} parts"))),
        }
    }
}

/// Checks that GGUF files are all parts of one model, in order. `name` is what was to be opened.
pub(crate) fn check(name: &str, parts: &[ReadPart]) -> Result<(), FormatError> {
    let mut splits = vec![];
    for (at, part) in parts.iter().enumerate() {
        if part.parsed.kind == FileKind::Safetensors {
            return Ok(());
        }
        let Some(split) = Split::of(part)? else {
            if parts.len() == 1 {
                return Ok(());
            }
            return Err(invalid(part, COUNT_KEY, format!("it is missing in a file that is one of {}", parts.len())));
        };
        if split.number != at {
            let problem = format!("{}, where part number {at} is expected (from 0); it is another part", split.number);
            return Err(invalid(part, NUMBER_KEY, problem));
        }
        if at == 0 && parts.len() < split.count {
            return Err(FormatError::MissingPart {
                file: name.to_owned(),
                part: format!("the one that follows {}", parts[parts.len() - 1].name()),
                number: parts.len() + 1,
                count: split.count,
            });
        }
        if split.count != parts.len() {
            let problem = format!("{}, but there are {} parts; they are not of one model", split.count, parts.len());
            return Err(invalid(part, COUNT_KEY, problem));
        }
        splits.push((part, split));
    }
    // Once the parts are known to be the right ones.
    let n_tensors = parts.iter().map(|part| part.parsed.tensors.len()).sum::<usize>();
    for (part, split) in splits {
        if let Some(expected) = split.n_tensors.filter(|&expected| expected != n_tensors) {
            let problem = format!(
                "{expected}, but all parts together have {n_tensors} tensors; they are not of one model, get them again"
            );
            return Err(invalid(part, N_TENSORS_KEY, problem));
        }
    }
    Ok(())
}

fn number(part: &ReadPart, key: &str) -> Result<Option<usize>, FormatError> {
    let Some((_, value)) = part.parsed.metadata.iter().find(|(found, _)| found == key) else { return Ok(None) };
    match value.as_u64().map(usize::try_from) {
        Some(Ok(number)) => Ok(Some(number)),
        _ => Err(invalid(part, key, unsuitable(value))),
    }
}

fn unsuitable(value: &MetaValue) -> String {
    format!("{value}, but a number that is not negative is needed")
}

fn invalid(part: &ReadPart, key: &str, problem: String) -> FormatError {
    FormatError::Header { file: part.name().to_owned(), item: format!("metadata {key}"), problem }
}
