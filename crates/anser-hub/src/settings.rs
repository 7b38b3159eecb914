//! The addresses of the hub and of its cache, and the user's token: the environment variables of Hugging Face's own tools.

use crate::error::HubError;
use std::env;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The hub that is asked if the environment names none.
const ENDPOINT: &str = "https://huggingface.co";
/// What switches a variable on, in any case; everything else switches it off, as Hugging Face's tools have it.
const ON: [&str; 4] = ["1", "on", "yes", "true"];
/// The longest file that is read as a token, in bytes.
const MAX_TOKEN_N_BYTES: u64 = 4096;

/// Where models come from and where they are kept.
#[derive(Clone)]
pub struct Settings {
    /// The address of the hub, without a slash at its end.
    pub endpoint: String,
    /// The folder of the cache.
    pub cache: PathBuf,
    /// What the hub knows the user by.
    pub token: Option<String>,
    /// Whether only the cache is looked at.
    pub offline: bool,
}

/// The token is a secret, which no log should have.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("has_token", &self.token.is_some())
            .field("offline", &self.offline)
            .finish()
    }
}

impl Settings {
    /// The settings of the environment, as Hugging Face's own tools read them; an empty variable counts as unset.
    ///
    /// - The hub: `HF_ENDPOINT`, else <https://huggingface.co>.
    /// - The cache: `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, else the folder `hub` of `HF_HOME`, which without that
    ///   variable is `huggingface` in `XDG_CACHE_HOME` or `~/.cache`.
    /// - The token: `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, the file `HF_TOKEN_PATH`, else the file `token` in the folder of
    ///   `HF_HOME`; none of them with `HF_HUB_DISABLE_IMPLICIT_TOKEN`.
    /// - `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`: only the cache is looked at.
    ///
    /// # Errors
    /// [`HubError::Setting`] if a variable cannot be followed, or if the system knows no home folder.
    pub fn from_env() -> Result<Settings, HubError> {
        Settings::from_variables(&|name| env::var_os(name).filter(|value| !value.is_empty()), env::home_dir())
    }

    fn from_variables(
        variable: &dyn Fn(&str) -> Option<std::ffi::OsString>,
        home: Option<PathBuf>,
    ) -> Result<Settings, HubError> {
        let is_on = |name: &str| {
            variable(name)
                .and_then(|value| value.into_string().ok())
                .is_some_and(|value| ON.iter().any(|on| value.trim().eq_ignore_ascii_case(on)))
        };
        let path = |name: &str| variable(name).map(|value| from_home(PathBuf::from(value), home.as_deref()));
        let caches = || path("XDG_CACHE_HOME").or_else(|| Some(home.as_deref()?.join(".cache")));
        let hf_home = path("HF_HOME").or_else(|| Some(caches()?.join("huggingface")));
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(hf_home.as_deref()?.join("hub")))
            .ok_or_else(|| HubError::Setting {
                variable: "HF_HOME",
                problem: "the system knows no home folder; name a folder for downloaded models".into(),
            })?;
        let endpoint = match variable("HF_ENDPOINT") {
            Some(value) => endpoint(&value.to_string_lossy())?,
            None => ENDPOINT.to_owned(),
        };
        let token = match is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            true => None,
            false => match variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN")) {
                Some(value) => as_token("HF_TOKEN", &value.to_string_lossy())?,
                None => match path("HF_TOKEN_PATH").or_else(|| Some(hf_home?.join("token"))) {
                    Some(file) => token_in(&file)?,
                    None => None,
                },
            },
        };
        Ok(Settings { endpoint, cache, token, offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE") })
    }
}

/// `path` with the home folder in place of a `~` at its beginning, which no shell has replaced in a file of settings.
fn from_home(path: PathBuf, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(below), Some(home)) => home.join(below),
        (Ok(_) | Err(_), _) => path,
    }
}

fn endpoint(text: &str) -> Result<String, HubError> {
    let text = text.trim().trim_end_matches('/');
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_plain = |host: &str| !host.is_empty() && !host.chars().any(|c| c.is_whitespace() || c.is_control());
    match host.filter(|host| is_plain(host)) {
        Some(_) => Ok(text.to_owned()),
        None => Err(HubError::Setting {
            variable: "HF_ENDPOINT",
            problem: format!("expected an address like {ENDPOINT}, found {text:?}"),
        }),
    }
}

/// The token in `text`; `None` if there is none. Characters that cannot stand in a header are an error, which does not
/// repeat them.
fn as_token(variable: &'static str, text: &str) -> Result<Option<String>, HubError> {
    let token = text.trim();
    if token.is_empty() {
        return Ok(None);
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = "a token has only letters, digits and signs; copy it again, or unset the variable";
        return Err(HubError::Setting { variable, problem: problem.into() });
    }
    Ok(Some(token.to_owned()))
}

/// The token in `file`; `None` if there is no such file.
fn token_in(file: &Path) -> Result<Option<String>, HubError> {
    let unreadable = |error: std::io::Error| HubError::Io { path: file.display().to_string(), source: error };
    let mut text = vec![];
    match std::fs::File::open(file) {
        Ok(open) => open.take(MAX_TOKEN_N_BYTES).read_to_end(&mut text).map_err(unreadable)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    as_token("HF_TOKEN_PATH", &String::from_utf8_lossy(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Settings, HubError> {
        let variable =
            |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).into());
        Settings::from_variables(&variable, Some("/home/ann".into()))
    }

    #[test]
    fn the_cache_is_where_hugging_faces_tools_have_it() {
        let cache =
            |variables: &[(&str, &str)]| with(variables).unwrap().cache.display().to_string().replace('\\', "/");
        assert_eq!(cache(&[]), "/home/ann/.cache/huggingface/hub");
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(cache(&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), "/h/hub");
        assert_eq!(cache(&[("HF_HOME", "~/h")]), "/home/ann/h/hub");
        assert_eq!(cache(&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HOME", "/h")]), "/old");
        assert_eq!(cache(&[("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")]), "/new");
        let homeless = Settings::from_variables(&|_| None, None).unwrap_err().to_string();
        assert!(homeless.contains("HF_HOME"), "{homeless}");
    }

    #[test]
    fn tokens_come_from_the_usual_places_and_stay_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "hf_file\n").unwrap();
        let home = folder.path().to_str().unwrap();
        let token = |variables: &[(&str, &str)]| with(variables).unwrap().token;
        assert_eq!(token(&[("HF_HOME", home)]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[("HF_TOKEN_PATH", file.to_str().unwrap())]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", " hf_x ")]).as_deref(), Some("hf_x"));
        assert_eq!(token(&[("HF_TOKEN_PATH", "/none")]), None);
        assert_eq!(token(&[("HF_TOKEN", "hf_x"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "TRUE")]), None);
        let settings = with(&[("HF_TOKEN", "hf_secret")]).unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
        let wrong = with(&[("HF_TOKEN", "hf_secret\u{7}")]).unwrap_err().to_string();
        assert!(wrong.contains("HF_TOKEN") && !wrong.contains("secret"), "{wrong}");
    }

    #[test]
    fn switches_and_addresses_are_read_as_their_tools_read_them() {
        for (value, is_on) in [("1", true), ("yes", true), ("On", true), ("TRUE", true), ("0", false), ("off", false)] {
            assert_eq!(with(&[("HF_HUB_OFFLINE", value)]).unwrap().offline, is_on, "{value}");
            assert_eq!(with(&[("TRANSFORMERS_OFFLINE", value)]).unwrap().offline, is_on, "{value}");
        }
        assert_eq!(with(&[]).unwrap().endpoint, "https://huggingface.co");
        assert_eq!(with(&[("HF_ENDPOINT", "http://127.0.0.1:80/a/")]).unwrap().endpoint, "http://127.0.0.1:80/a");
        for wrong in ["huggingface.co", "ftp://x", "https://", "https://a b"] {
            assert!(with(&[("HF_ENDPOINT", wrong)]).unwrap_err().to_string().contains("HF_ENDPOINT"), "{wrong}");
        }
    }
}
