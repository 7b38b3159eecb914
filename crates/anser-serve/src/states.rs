//! Named states: texts that were read once, from which any number of requests begin.

use crate::error::ApiError;
use anser_engine::{Saved, Tenant};
use axum::http::StatusCode;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most letters of a name, and the most states of a tenant.
const MAX_NAME_LEN: usize = 64;
const MAX_STATES: usize = 1000;
/// The bytes at the end of a text by which a conversation knows whether its last turn is complete.
const TAIL_LEN: usize = 16;

/// A state under a name.
#[derive(Debug)]
pub(crate) struct NamedState {
    pub(crate) name: String,
    /// The name of the model that it is of.
    pub(crate) model: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) saved: Arc<Saved>,
    /// The tokens that were read; `None` for a state from a file.
    pub(crate) n_tokens: Option<usize>,
    /// The end of the text that was read; `None` for a state from a file, which is taken to end with a turn.
    pub(crate) tail: Option<String>,
}

/// The states of all tenants.
#[derive(Debug)]
pub(crate) struct StateStore {
    states: Mutex<BTreeMap<(Tenant, String), Arc<NamedState>>>,
    /// The bytes that one tenant may keep.
    max_n_bytes: usize,
}

impl NamedState {
    pub(crate) fn n_bytes(&self) -> usize {
        4 * (self.saved.state.data().len() + self.saved.logits.len())
    }
}

impl StateStore {
    pub(crate) fn new(max_n_bytes: usize) -> StateStore {
        StateStore { states: Mutex::default(), max_n_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Tenant, String), Arc<NamedState>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tenant's state of this name.
    pub(crate) fn get(&self, tenant: Tenant, name: &str) -> Result<Arc<NamedState>, ApiError> {
        self.lock().get(&(tenant, name.to_owned())).cloned().ok_or_else(|| unknown(name))
    }

    /// The tenant's state of this name, for a request to the model `model`.
    ///
    /// Errors: it is unknown, or of another model.
    pub(crate) fn of_model(&self, tenant: Tenant, name: &str, model: &str) -> Result<Arc<NamedState>, ApiError> {
        let state = self.get(tenant, name)?;
        match state.model == model {
            true => Ok(state),
            false => {
                let message = format!(
                    "state: {name:?} is of the model {:?}, and the request is to {model:?}: ask that model",
                    state.model
                );
                Err(ApiError::invalid("state", message))
            }
        }
    }

    /// The tenant's states, by name.
    pub(crate) fn list(&self, tenant: Tenant) -> Vec<Arc<NamedState>> {
        self.lock().iter().filter(|((owner, _), _)| *owner == tenant).map(|(_, state)| state.clone()).collect()
    }

    pub(crate) fn delete(&self, tenant: Tenant, name: &str) -> Result<(), ApiError> {
        self.lock().remove(&(tenant, name.to_owned())).map(drop).ok_or_else(|| unknown(name))
    }

    /// Keeps a state, in place of one of the same name if there is one.
    ///
    /// Errors: the tenant would have too many bytes.
    pub(crate) fn insert(&self, tenant: Tenant, state: NamedState) -> Result<Arc<NamedState>, ApiError> {
        let mut states = self.lock();
        let key = (tenant, state.name.clone());
        let of_tenant = || states.iter().filter(|((owner, name), _)| *owner == tenant && *name != state.name);
        let n_bytes = of_tenant().map(|(_, state)| state.n_bytes()).sum::<usize>() + state.n_bytes();
        if n_bytes > self.max_n_bytes || of_tenant().count() >= MAX_STATES {
            let message = format!(
                "there is no room for another state: at most {} bytes of states are kept; delete some",
                self.max_n_bytes
            );
            return Err(ApiError::new(StatusCode::BAD_REQUEST, Some("states_full"), message));
        }
        let state = Arc::new(state);
        states.insert(key, state.clone());
        Ok(state)
    }

    pub(crate) fn has(&self, tenant: Tenant, name: &str) -> bool {
        self.lock().contains_key(&(tenant, name.to_owned()))
    }
}

fn unknown(name: &str) -> ApiError {
    let name: String = name.chars().take(MAX_NAME_LEN).collect();
    let message = format!("there is no state {name:?}: GET /v1/states lists those that there are");
    ApiError::new(StatusCode::NOT_FOUND, Some("state_not_found"), message).at("state")
}

/// Checks a name, which is never a path.
pub(crate) fn check_name(name: &str) -> Result<(), ApiError> {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match (1..=MAX_NAME_LEN).contains(&name.len()) && name.chars().all(is_letter) {
        true => Ok(()),
        false => {
            let message = format!("name: expected 1 to {MAX_NAME_LEN} letters, digits, - and _");
            Err(ApiError::invalid("name", message))
        }
    }
}

/// The end of a text that was read.
pub(crate) fn tail(text: &str) -> String {
    let mut at = text.len().saturating_sub(TAIL_LEN);
    while !text.is_char_boundary(at) {
        at += 1;
    }
    text[at..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::{check_name, tail};

    #[test]
    fn names_are_no_paths() {
        assert!(check_name("manual-2_b").is_ok() && check_name(&"x".repeat(64)).is_ok());
        for name in ["", "a/b", "..", "a.b", "a b", "é", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn tails_are_whole_characters() {
        assert_eq!(tail("short"), "short");
        assert_eq!(tail(&"é".repeat(20)), "é".repeat(8));
        assert_eq!(tail(&format!("{}x", "é".repeat(20))), format!("{}x", "é".repeat(7)));
    }
}
