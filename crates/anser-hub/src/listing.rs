//! The files of a repository at one commit, as the hub's API lists them.

use crate::name::check_path;
use serde::Deserialize;

/// The most files of a repository that are looked at.
const MAX_FILES: usize = 100_000;

/// A repository at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    /// The commit, which is also the name of a folder in the cache.
    pub(crate) commit: String,
    /// Sorted by path.
    pub(crate) files: Vec<Listed>,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// The path in the repository, which leads to no other folder.
    pub(crate) path: String,
    /// The size, if the hub tells it.
    pub(crate) n_bytes: Option<u64>,
}

#[derive(Deserialize)]
struct Json {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
}

impl Listing {
    /// Parses the answer of `api/models/OWNER/REPO/revision/REVISION`. Files whose paths could lead elsewhere are left out.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Listing, String> {
        let json: Json =
            serde_json::from_slice(bytes).map_err(|error| format!("not a repository's files ({error})"))?;
        if !is_hash(&json.sha) {
            return Err(format!("its commit is {:?}", json.sha.chars().take(80).collect::<String>()));
        }
        if json.siblings.len() > MAX_FILES {
            return Err(format!("{} files, but at most {MAX_FILES} are looked at", json.siblings.len()));
        }
        let is_safe = |file: &Sibling| check_path(&file.rfilename).is_ok();
        let mut files: Vec<Listed> = json
            .siblings
            .into_iter()
            .filter(is_safe)
            .map(|file| Listed { path: file.rfilename, n_bytes: file.size })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        Ok(Listing { commit: json.sha, files })
    }
}

/// Whether `text` can be a hash, and so a name of a file or folder in the cache.
pub(crate) fn is_hash(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_are_left_out() {
        let json = r#"{"sha": "ab12", "private": false, "siblings": [{"rfilename": "z/b.gguf", "size": 5},
            {"rfilename": "../../.bashrc"}, {"rfilename": "/etc/passwd"}, {"rfilename": "a.gguf"}, {"rfilename": "a.gguf"}]}"#;
        let listing = Listing::parse(json.as_bytes()).unwrap();
        let paths: Vec<&str> = listing.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!((listing.commit.as_str(), &paths[..]), ("ab12", &["a.gguf", "z/b.gguf"][..]));
        assert_eq!(listing.files[1].n_bytes, Some(5));
    }

    #[test]
    fn commits_that_are_no_names_are_refused() {
        for sha in ["", "..", "a/b", "a\\\\b", "a.b"] {
            assert!(Listing::parse(format!(r#"{{"sha": "{sha}"}}"#).as_bytes()).is_err(), "{sha}");
        }
        assert!(Listing::parse(b"<html>").unwrap_err().contains("not a repository's files"));
    }
}
