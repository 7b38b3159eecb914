//! Names of models on a hub: `hf:OWNER/REPO[:FILE][@REVISION]`.

use crate::error::HubError;
use std::fmt::{self, Display, Formatter};

/// What a name begins with.
pub const PREFIX: &str = "hf:";
/// The revision of names that have none: the branch that every repository has.
pub const MAIN: &str = "main";
/// The longest `OWNER/REPO` that hubs accept, in bytes.
const MAX_REPO_N_BYTES: usize = 96;
/// The longest path of a file, and the longest revision, in bytes.
const MAX_PATH_N_BYTES: usize = 512;

/// A model on a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    repo: String,
    file: Option<String>,
    revision: String,
}

impl ModelName {
    /// Whether `text` is meant to be such a name, valid or not: whether it begins with `hf:`.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Parses `hf:OWNER/REPO[:FILE][@REVISION]`.
    ///
    /// # Errors
    /// [`HubError::Name`] if a part is missing, or could lead out of the folder that it is to lie in.
    pub fn parse(text: &str) -> Result<ModelName, HubError> {
        let wrong = |problem: String| HubError::Name { name: text.to_owned(), problem };
        let rest = text.strip_prefix(PREFIX).ok_or_else(|| wrong(format!("it does not begin with {PREFIX}")))?;
        let (rest, revision) = match rest.rsplit_once('@') {
            Some((rest, revision)) => (rest, revision),
            None => (rest, MAIN),
        };
        let (repo, file) = match rest.split_once(':') {
            Some((repo, file)) => (repo, Some(file)),
            None => (rest, None),
        };
        check_repo(repo).map_err(|problem| wrong(format!("{repo:?} is not OWNER/REPO: {problem}")))?;
        if let Some(file) = file {
            check_path(file).map_err(|problem| wrong(format!("{file:?} is not a file of a repository: {problem}")))?;
        }
        check_path(revision).map_err(|problem| wrong(format!("{revision:?} is not a revision: {problem}")))?;
        Ok(ModelName { repo: repo.to_owned(), file: file.map(str::to_owned), revision: revision.to_owned() })
    }

    /// `OWNER/REPO`.
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// The path of a file in the repository, or a part of one, such as `Q8_0`.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// A branch, a tag or a commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The name of the same repository and revision with another file.
    pub(crate) fn with_file(&self, file: &str) -> ModelName {
        ModelName { file: Some(file.to_owned()), ..self.clone() }
    }
}

impl Display for ModelName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.repo)?;
        if let Some(file) = &self.file {
            write!(f, ":{file}")?;
        }
        if self.revision != MAIN {
            write!(f, "@{}", self.revision)?;
        }
        Ok(())
    }
}

/// Checks what becomes a part of a URL and, with `--` for the slash, the name of a folder.
fn check_repo(repo: &str) -> Result<(), String> {
    if repo.len() > MAX_REPO_N_BYTES {
        return Err(format!("it has more than {MAX_REPO_N_BYTES} characters"));
    }
    let parts: Vec<&str> = repo.split('/').collect();
    let [owner, name] = parts[..] else { return Err("one slash is needed, as in BlinkDL/rwkv7-g1".into()) };
    for part in [owner, name] {
        if part.is_empty() {
            return Err("a part is empty".into());
        }
        if let Some(c) = part.chars().find(|&c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
            return Err(format!("it has {c:?}, but only letters, digits, '-', '_' and '.' are allowed"));
        }
        if part.starts_with(['.', '-']) || part.ends_with(['.', '-']) || part.contains("..") || part.contains("--") {
            return Err("a part may not begin or end with '.' or '-', nor have two of them in a row".into());
        }
    }
    Ok(())
}

/// Checks that `path` names something below the folder that it is joined to, on every system.
pub(crate) fn check_path(path: &str) -> Result<(), String> {
    if path.len() > MAX_PATH_N_BYTES {
        return Err(format!("it has more than {MAX_PATH_N_BYTES} bytes"));
    }
    if let Some(c) = path.chars().find(|&c| c.is_control() || matches!(c, '\\' | ':')) {
        return Err(format!("it has {c:?}"));
    }
    match path.split('/').find(|part| matches!(*part, "" | "." | "..")) {
        Some("") => Err("a part of it is empty".into()),
        Some(part) => Err(format!("it has the part {part:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_up_to_four_parts() {
        let parts = |text: &str| {
            let name = ModelName::parse(text).unwrap();
            assert_eq!(name.to_string(), text.strip_suffix("@main").unwrap_or(text));
            (name.repo.clone(), name.file.clone().unwrap_or_default(), name.revision.clone())
        };
        let owned = |repo: &str, file: &str, revision: &str| (repo.into(), file.into(), revision.into());
        assert_eq!(parts("hf:a/b"), owned("a/b", "", "main"));
        assert_eq!(parts("hf:a/b@main"), owned("a/b", "", "main"));
        assert_eq!(parts("hf:a/b:c/d-Q8_0.gguf"), owned("a/b", "c/d-Q8_0.gguf", "main"));
        assert_eq!(parts("hf:BlinkDL/rwkv7-g1:x.pth@refs/pr/1"), owned("BlinkDL/rwkv7-g1", "x.pth", "refs/pr/1"));
        assert_eq!(parts("hf:a/b:c@d.pth@v1.0"), owned("a/b", "c@d.pth", "v1.0"));
    }

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        let names = [
            "a/b",
            "hf:",
            "hf:a",
            "hf:a/",
            "hf:/b",
            "hf:a/b/c",
            "hf:../b",
            "hf:a/..",
            "hf:a/.b",
            "hf:a/b.",
            "hf:a/b--c",
            "hf:a b/c",
            "hf:a/b?x",
            "hf:a/b#x",
            "hf:a/b%2e",
            "hf:a/é",
            "hf:a/b\n",
            "hf:a/b:",
            "hf:a/b:/etc/passwd",
            "hf:a/b:../c",
            "hf:a/b:c/../d",
            "hf:a/b:c//d",
            "hf:a/b:c\\d",
            "hf:a/b:C:x",
            "hf:a/b:c\u{1b}",
            "hf:a/b@",
            "hf:a/b@..",
            "hf:a/b@../x",
            "hf:a/b@/x",
            "hf:a/b@x/",
            "hf:a/b@x\\y",
        ];
        for name in names {
            let error = ModelName::parse(name).unwrap_err();
            assert!(matches!(error, HubError::Name { .. }), "{name}");
            assert!(error.to_string().contains("hf:OWNER/REPO"), "{error}");
        }
        let long = format!("hf:a/{}", "b".repeat(100));
        assert!(ModelName::parse(&long).unwrap_err().to_string().contains("96"));
        assert!(ModelName::parse(&format!("hf:a/b:{}", "c".repeat(600))).is_err());
    }
}
