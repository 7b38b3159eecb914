//! API keys, each of which is a tenant of the engine.

use anser_engine::Tenant;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// The most bytes of a key.
const MAX_KEY_N_BYTES: usize = 512;

/// The keys that a server accepts. Without any it accepts every request, all of one tenant.
#[derive(Clone, Default)]
pub struct Keys {
    /// The SHA-256 of each key: what is compared does not depend on a key's length.
    digests: Vec<[u8; 32]>,
}

/// Never shows anything of a key.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.digests.len())
    }
}

impl Keys {
    /// The keys in the lines of a text. Empty lines and lines that begin with `#` are left out, and so is white space around a key.
    ///
    /// # Errors
    /// The number of the first line whose key could not stand in a header, or that no key is there.
    pub fn from_lines(text: &str) -> Result<Keys, String> {
        let mut digests = vec![];
        for (at, line) in text.lines().enumerate() {
            let key = line.trim();
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            if key.len() > MAX_KEY_N_BYTES || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                let n = at + 1;
                return Err(format!(
                    "line {n}: expected a key of at most {MAX_KEY_N_BYTES} printable ASCII characters without spaces"
                ));
            }
            digests.push(digest(key.as_bytes()));
        }
        match digests.is_empty() {
            true => Err("expected a key on a line of its own, found none".into()),
            false => Ok(Keys { digests }),
        }
    }

    /// Whether requests need no key.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// The tenant of a request with these headers; `None` if it lacks a key that is needed. The time does not depend on how much of
    /// a key is right.
    pub(crate) fn tenant(&self, headers: &HeaderMap) -> Option<Tenant> {
        if self.digests.is_empty() {
            return Some(Tenant::default());
        }
        let given = digest(presented(headers)?);
        let mut found = Choice::from(0);
        let mut tenant = 0;
        for key in &self.digests {
            let is_it = key.ct_eq(&given);
            tenant = u64::conditional_select(&tenant, &number(key), is_it);
            found |= is_it;
        }
        bool::from(found).then_some(Tenant(tenant))
    }
}

/// The key in `Authorization: Bearer KEY` or `x-api-key: KEY`.
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let value = value.as_bytes();
        let (scheme, key) = value.split_at(value.iter().position(|&byte| byte == b' ')?);
        return scheme.eq_ignore_ascii_case(b"bearer").then(|| key.trim_ascii());
    }
    headers.get("x-api-key").map(|value| value.as_bytes().trim_ascii())
}

fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// The number of the tenant whose key has this digest.
fn number(digest: &[u8; 32]) -> u64 {
    let of_tenant = Sha256::new_with_prefix("anser tenant ").chain_update(digest).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&of_tenant[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::Keys;
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn each_key_is_a_tenant() {
        let keys = Keys::from_lines("# of Ann\nann-key\n\n  ben-key  \r\n").unwrap();
        let tenant = |name, value: &str| keys.tenant(&headers(name, value));
        let ann = tenant("authorization", "Bearer ann-key").unwrap();
        let ben = tenant("authorization", "bearer ben-key").unwrap();
        assert_ne!(ann, ben);
        assert_eq!(tenant("authorization", "BEARER  ann-key"), Some(ann));
        assert_eq!(tenant("x-api-key", "ben-key"), Some(ben));
        for wrong in
            ["Bearer", "Bearer ", "ann-key", "Basic ann-key", "Bearer ann-ke", "Bearer ann-keyx", "Bearer # of Ann"]
        {
            assert_eq!(tenant("authorization", wrong), None, "{wrong}");
        }
        assert_eq!(keys.tenant(&HeaderMap::new()), None);
        assert!(Keys::default().tenant(&HeaderMap::new()).is_some());
    }

    #[test]
    fn files_without_a_usable_key_are_refused() {
        assert!(Keys::from_lines("# nothing\n\n").unwrap_err().contains("none"));
        assert!(Keys::from_lines("good\nnot good\n").unwrap_err().starts_with("line 2"));
        assert!(Keys::from_lines(&"x".repeat(600)).is_err());
        assert_eq!(format!("{:?}", Keys::from_lines("secret").unwrap()), "Keys(1)");
    }
}
