//! Which of a repository's files are the model that is meant.

use crate::error::HubError;
use crate::listing::{Listed, Listing};
use crate::name::ModelName;

/// Storage types of GGUF files by their usual names, in the order in which they are preferred: first the usual balance of size
/// and quality, then better ones, then smaller ones, then those without quantization.
const TYPES: [&str; 32] = [
    "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "Q5_K_S", "Q4_K_S", "Q5_K", "Q4_K", "IQ4_NL", "IQ4_XS", "Q5_1", "Q5_0", "Q4_1",
    "Q4_0", "Q3_K_L", "Q3_K_M", "IQ3_M", "IQ3_S", "Q3_K_S", "IQ3_XS", "IQ3_XXS", "Q2_K", "Q2_K_S", "IQ2_M", "IQ2_S",
    "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S", "F16", "BF16", "F32",
];
/// Settings and tokenizers that are read if they lie beside weights.
const BESIDE: [&str; 4] = ["config.json", "tokenizer.json", "20B_tokenizer.json", "rwkv_vocab_v20230424.txt"];
/// The names of a folder's model.
const FOLDER_MODEL: &str = "model.safetensors";
const FOLDER_INDEX: &str = "model.safetensors.index.json";
/// The most models that a message lists.
const MAX_SHOWN: usize = 12;

/// The files of the model that is meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The file to open.
    pub(crate) open: String,
    /// All files to have, small ones first, so that a model whose weights are here is complete.
    pub(crate) files: Vec<String>,
    /// What was taken and why, if there was a choice.
    pub(crate) reason: Option<String>,
}

/// What kind of model a candidate is, in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Gguf,
    /// safetensors beside `config.json`.
    Folder,
    Safetensors,
    Torch,
}

impl Kind {
    fn plural(self) -> &'static str {
        match self {
            Kind::Gguf => "GGUF models",
            Kind::Folder => "folders of safetensors",
            Kind::Safetensors => "safetensors files",
            Kind::Torch => ".pth files",
        }
    }
}

/// A model of a repository.
#[derive(Debug)]
struct Candidate<'a> {
    kind: Kind,
    /// The file to open: of a model in parts the first one, of shards their index.
    open: &'a str,
    /// The weights, in one or more files.
    weights: Vec<&'a Listed>,
}

impl Candidate<'_> {
    /// The size of all weights; 0 if the hub does not tell it.
    fn n_bytes(&self) -> u64 {
        self.weights.iter().filter_map(|file| file.n_bytes).sum()
    }

    /// The storage type in the name of a GGUF file, and the rest of the name.
    fn storage_type(&self) -> Option<(&'static str, String)> {
        let name = self.open.to_ascii_uppercase();
        let is_inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
        TYPES
            .iter()
            .filter_map(|&kind| {
                let at = name
                    .match_indices(kind)
                    .map(|(at, _)| at)
                    .filter(|&at| {
                        !name[..at].ends_with(|c: char| c.is_ascii_alphanumeric())
                            && !name[at + kind.len()..].starts_with(is_inside)
                    })
                    .last()?;
                Some((kind, format!("{}{}", &name[..at], &name[at + kind.len()..])))
            })
            .max_by_key(|(kind, _)| kind.len())
    }
}

/// Chooses the model that `name` means among the files of its repository.
///
/// # Errors
/// If there is none, or if the name fits models that differ in more than the storage type.
pub(crate) fn choose(name: &ModelName, listing: &Listing) -> Result<Choice, HubError> {
    let all = candidates(&listing.files);
    if all.is_empty() {
        return Err(HubError::NoModel { repo: name.repo().to_owned(), n_files: listing.files.len() });
    }
    let meant = match name.file() {
        Some(file) => named(&all, file),
        None => {
            let best = all.iter().map(|candidate| candidate.kind).min();
            all.iter().filter(|candidate| Some(candidate.kind) == best).collect()
        }
    };
    match &meant[..] {
        [] => Err(HubError::NoFile {
            repo: name.repo().to_owned(),
            file: name.file().unwrap_or_default().to_owned(),
            found: format!("it has {}", shown(&all.iter().collect::<Vec<_>>())),
        }),
        [one] => Ok(choice(one, listing, only_one(one, &all, name))),
        several => {
            let best = best_of_one_model(several).ok_or_else(|| HubError::Ambiguous {
                name: name.to_string(),
                found: format!("it fits {}", shown(several)),
                example: name.with_file(several[0].open).to_string(),
            })?;
            let (kind, _) = best.storage_type().unwrap_or_default();
            let others: Vec<&str> = several
                .iter()
                .filter_map(|other| other.storage_type())
                .map(|(other, _)| other)
                .filter(|other| *other != kind)
                .collect();
            let reason = format!(
                "{name}: took {}{} of {} {}: {kind} comes first by its balance of size and quality; there are also {} (as {})",
                best.open,
                in_words(best.n_bytes()),
                several.len(),
                best.kind.plural(),
                others.join(", "),
                name.with_file(others.first().copied().unwrap_or(kind)),
            );
            Ok(choice(best, listing, Some(reason)))
        }
    }
}

/// What to say about the only model of its kind: nothing, unless the repository has other kinds that were not asked for.
fn only_one(one: &Candidate<'_>, all: &[Candidate<'_>], name: &ModelName) -> Option<String> {
    let other = all.iter().find(|other| other.kind != one.kind).filter(|_| name.file().is_none())?;
    Some(format!(
        "{name}: took {}{}: {} come before {}, of which {} would be one",
        one.open,
        in_words(one.n_bytes()),
        one.kind.plural(),
        other.kind.plural(),
        name.with_file(other.open),
    ))
}

/// The candidates that `file` names: by the path of one of their files, by the storage type, else by a part of the path.
fn named<'a, 'b>(all: &'b [Candidate<'a>], file: &str) -> Vec<&'b Candidate<'a>> {
    let by_path = |candidate: &&Candidate<'_>| {
        candidate.open == file || candidate.weights.iter().any(|weights| weights.path == file)
    };
    let by_type =
        |candidate: &&Candidate<'_>| candidate.storage_type().is_some_and(|(kind, _)| kind.eq_ignore_ascii_case(file));
    let wanted = file.to_ascii_lowercase();
    let by_part = |candidate: &&Candidate<'_>| candidate.open.to_ascii_lowercase().contains(&wanted);
    let is_wanted: [&dyn Fn(&&Candidate<'_>) -> bool; 3] = [&by_path, &by_type, &by_part];
    let mut found = is_wanted.into_iter().map(|is_wanted| all.iter().filter(is_wanted).collect::<Vec<_>>());
    found.find(|found| !found.is_empty()).unwrap_or_default()
}

/// The preferred one of GGUF models whose names differ in nothing but the storage type.
fn best_of_one_model<'a, 'b>(several: &[&'b Candidate<'a>]) -> Option<&'b Candidate<'a>> {
    let mut ranked = vec![];
    for candidate in several {
        let (kind, rest) = candidate.storage_type()?;
        ranked.push((TYPES.iter().position(|other| *other == kind)?, rest, *candidate));
    }
    let is_one_model = ranked.windows(2).all(|pair| pair[0].1 == pair[1].1);
    ranked.into_iter().min_by_key(|(rank, ..)| *rank).filter(|_| is_one_model).map(|(.., candidate)| candidate)
}

fn choice(candidate: &Candidate<'_>, listing: &Listing, reason: Option<String>) -> Choice {
    let folder = folder_of(candidate.open);
    let mut files = vec![];
    if candidate.kind != Kind::Gguf {
        let is_beside = |file: &&Listed| folder_of(&file.path) == folder && BESIDE.contains(&file_name(&file.path));
        files.extend(listing.files.iter().filter(is_beside).map(|file| file.path.clone()));
    }
    let is_index = candidate.weights.iter().all(|file| file.path != candidate.open);
    files.extend(is_index.then(|| candidate.open.to_owned()));
    files.extend(candidate.weights.iter().map(|file| file.path.clone()));
    Choice { open: candidate.open.to_owned(), files, reason }
}

/// The models among `files`, which are sorted by path.
fn candidates(files: &[Listed]) -> Vec<Candidate<'_>> {
    let mut all = vec![];
    for file in files {
        let (folder, own_name) = (folder_of(&file.path), file_name(&file.path));
        let beside =
            |name: &str| files.iter().any(|other| folder_of(&other.path) == folder && file_name(&other.path) == name);
        let Some((_, ending)) = own_name.rsplit_once('.') else { continue };
        // What imatrix tools write is a GGUF file, too, but no model.
        let kind = match ending.to_ascii_lowercase().as_str() {
            "gguf" if !own_name.to_ascii_lowercase().contains("imatrix") => Kind::Gguf,
            "safetensors" if own_name == FOLDER_MODEL && beside("config.json") => Kind::Folder,
            "safetensors" | "st" => Kind::Safetensors,
            "pth" | "pt" => Kind::Torch,
            "json" if own_name == FOLDER_INDEX && beside("config.json") => {
                let is_shard = |other: &&Listed| {
                    let name = file_name(&other.path);
                    folder_of(&other.path) == folder && name.ends_with(".safetensors") && part_of(name).is_some()
                };
                let weights: Vec<&Listed> = files.iter().filter(is_shard).collect();
                if !weights.is_empty() {
                    all.push(Candidate { kind: Kind::Folder, open: &file.path, weights });
                }
                continue;
            }
            _ => continue,
        };
        let weights = match (kind, part_of(own_name)) {
            (Kind::Gguf, Some((stem, 1, count))) => {
                let is_part = |other: &&Listed| {
                    let part = part_of(file_name(&other.path));
                    folder_of(&other.path) == folder && part.is_some_and(|(s, _, n)| (s, n) == (stem, count))
                };
                let parts: Vec<&Listed> = files.iter().filter(is_part).collect();
                if parts.len() != count {
                    continue; // Parts are missing.
                }
                parts
            }
            // Other parts belong to the first one, and shards to their index.
            (Kind::Gguf | Kind::Safetensors, Some(_)) => continue,
            (Kind::Gguf | Kind::Folder | Kind::Safetensors | Kind::Torch, _) => vec![file],
        };
        all.push(Candidate { kind, open: &file.path, weights });
    }
    all
}

/// Stem, number and count of a name `STEM-00001-of-00003.ENDING`.
fn part_of(name: &str) -> Option<(&str, usize, usize)> {
    let (name, _) = name.rsplit_once('.')?;
    let (name, count) = name.rsplit_once("-of-")?;
    let (stem, number) = name.rsplit_once('-')?;
    let digits = |text: &str| text.parse().ok().filter(|_| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit()));
    Some((stem, digits(number)?, digits(count)?))
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The first models of a list, in words.
fn shown(candidates: &[&Candidate<'_>]) -> String {
    let names: Vec<String> = candidates
        .iter()
        .take(MAX_SHOWN)
        .map(|candidate| format!("{}{}", candidate.open, in_words(candidate.n_bytes())))
        .collect();
    let more = candidates.len().saturating_sub(MAX_SHOWN);
    let models = if candidates.len() == 1 { "one model" } else { "several models" };
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{models}: {}{rest}", names.join(", "))
}

/// ` (1.9 GiB)`, or nothing if the size is not known.
fn in_words(n_bytes: u64) -> String {
    match n_bytes {
        0 => String::new(),
        n if n < 1 << 20 => format!(" ({n} bytes)"),
        n if n < 1 << 30 => format!(" ({} MiB)", n >> 20),
        n => format!(" ({:.1} GiB)", n as f64 / (1u64 << 30) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(paths: &[&str]) -> Listing {
        let mut files: Vec<Listed> =
            paths.iter().map(|path| Listed { path: (*path).into(), n_bytes: Some(3 << 30) }).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Listing { commit: "c0".into(), files }
    }

    fn chosen(name: &str, paths: &[&str]) -> Choice {
        choose(&ModelName::parse(name).unwrap(), &listing(paths)).unwrap()
    }

    fn refused(name: &str, paths: &[&str]) -> String {
        choose(&ModelName::parse(name).unwrap(), &listing(paths)).unwrap_err().to_string()
    }

    const QUANTS: [&str; 7] =
        ["README.md", "m-BF16.gguf", "m-F16.gguf", "m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "m-Q8_0.gguf", "m.imatrix.gguf"];

    #[test]
    fn of_one_models_storage_types_the_usual_one_is_taken_and_told() {
        let choice = chosen("hf:a/b", &QUANTS);
        assert_eq!((choice.open.as_str(), &choice.files[..]), ("m-Q4_K_M.gguf", &["m-Q4_K_M.gguf".to_owned()][..]));
        let reason = choice.reason.unwrap();
        assert!(
            reason.contains("took m-Q4_K_M.gguf (3.0 GiB) of 5 GGUF models") && reason.contains("Q8_0"),
            "{reason}"
        );
        assert_eq!(chosen("hf:a/b", &["x-f16.gguf", "x-q8_0.gguf"]).open, "x-q8_0.gguf");
        let i1 = ["x.i1-IQ1_S.gguf", "x.i1-IQ2_XXS.gguf", "x.i1-IQ2_XS.gguf", "x.i1-IQ3_M.gguf", "x.i1-Q2_K.gguf"];
        assert_eq!(chosen("hf:a/b", &i1).open, "x.i1-IQ3_M.gguf");
        assert_eq!(chosen("hf:a/b:iq2_xs", &i1).open, "x.i1-IQ2_XS.gguf");
    }

    #[test]
    fn files_are_named_by_path_type_or_part() {
        for (file, open) in [
            ("m-Q8_0.gguf", "m-Q8_0.gguf"),
            ("Q8_0", "m-Q8_0.gguf"),
            ("f16", "m-F16.gguf"),
            ("bf16", "m-BF16.gguf"),
            ("k_s", "m-Q4_K_S.gguf"),
        ] {
            let choice = chosen(&format!("hf:a/b:{file}"), &QUANTS);
            assert_eq!((choice.open.as_str(), choice.reason), (open, None), "{file}");
        }
        let error = refused("hf:a/b:Q3_K", &QUANTS);
        assert!(error.contains("no model \"Q3_K\"") && error.contains("m-Q4_K_M.gguf"), "{error}");
    }

    #[test]
    fn another_model_is_never_guessed() {
        let error = refused("hf:a/b", &["rwkv7-0.1b-Q8_0.gguf", "rwkv7-1.5b-Q8_0.gguf"]);
        assert!(error.contains("several models") && error.contains("hf:a/b:rwkv7-0.1b-Q8_0.gguf"), "{error}");
        let error = refused("hf:a/b", &["x.pth", "y.pth"]);
        assert!(error.contains("hf:a/b:x.pth"), "{error}");
        assert!(refused("hf:a/b", &["README.md"]).contains("none of its 1 files"), "no model");
        assert!(refused("hf:a/b", &["m-00001-of-00002.gguf"]).contains("none of its 1 files"), "a part is missing");
    }

    #[test]
    fn models_in_several_files_are_taken_whole() {
        let parts = ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"];
        for name in ["hf:a/b", "hf:a/b:m-Q8_0-00002-of-00002.gguf", "hf:a/b:q8_0"] {
            let choice = chosen(name, &parts);
            assert_eq!((choice.open.as_str(), choice.files.len()), (parts[0], 2), "{name}");
        }
        let shards = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "sub/config.json",
        ];
        let choice = chosen("hf:a/b", &shards);
        assert_eq!(choice.open, "model.safetensors.index.json");
        let order = ["config.json", "tokenizer.json", shards[3], shards[1], shards[2]];
        assert_eq!(choice.files, order);
    }

    #[test]
    fn kinds_have_an_order_that_is_told() {
        let files = ["x.pth", "model.safetensors", "config.json", "rwkv_vocab_v20230424.txt", "20B_tokenizer.json"];
        let choice = chosen("hf:a/b", &files);
        assert_eq!(choice.open, "model.safetensors");
        assert!(choice.reason.unwrap().contains("hf:a/b:x.pth"), "the other kind is told");
        let torch = chosen("hf:a/b:x.pth", &files);
        assert_eq!((torch.open.as_str(), torch.files.len(), torch.reason), ("x.pth", 4, None));
        assert_eq!(chosen("hf:a/b:model.safetensors@v1", &files).files.len(), 4);
        // Without settings these are weights alone.
        assert_eq!(chosen("hf:a/b", &["model.safetensors"]).files, ["model.safetensors"]);
    }
}
