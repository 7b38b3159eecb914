//! Named states: texts that were read once, from which any number of requests begin.

use crate::error::ApiError;
use anser::StateOrigin;
use anser_engine::{Saved, Start, Tenant, Tuned};
use axum::http::StatusCode;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most letters of a name, and the most states of a tenant.
const MAX_NAME_LEN: usize = 64;
const MAX_STATES: usize = 1000;
/// The bytes at the end of a text by which a conversation knows whether its last turn is complete.
const TAIL_LEN: usize = 16;
/// The most names that the message about an unknown one tells.
const MAX_TOLD: usize = 20;

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
    /// The state again, if it is an initial state that was found by tuning: texts begin there as they do in a fresh state.
    pub(crate) tuned: Option<Arc<Tuned>>,
}

/// The states of all tenants.
#[derive(Debug)]
pub(crate) struct StateStore {
    states: Mutex<BTreeMap<(Tenant, String), Arc<NamedState>>>,
    /// The states that the server was started with, by name, which every tenant may begin from.
    of_server: BTreeMap<String, Arc<NamedState>>,
    /// The bytes that one tenant may keep.
    max_n_bytes: usize,
}

impl NamedState {
    /// A state from a file that a model has read.
    pub(crate) fn of_file(name: String, model: String, created: u64, loaded: anser::LoadedState) -> NamedState {
        let tuned = (loaded.origin == StateOrigin::Tuned).then(|| Arc::new(Tuned::new(loaded.state.clone())));
        let saved = Arc::new(Saved { state: loaded.state, logits: loaded.logits });
        NamedState { name, model, created, saved, n_tokens: None, tail: None, tuned }
    }

    /// Where a prompt begins that follows this state.
    pub(crate) fn start(&self) -> Start {
        match &self.tuned {
            Some(tuned) => Start::Tuned(tuned.clone()),
            None => Start::State(self.saved.clone()),
        }
    }

    pub(crate) fn n_bytes(&self) -> usize {
        4 * (self.saved.state.data().len() + self.saved.logits.len())
    }
}

impl StateStore {
    /// A store with the states `of_server`, which belong to no tenant.
    pub(crate) fn new(max_n_bytes: usize, of_server: Vec<NamedState>) -> StateStore {
        let of_server = of_server.into_iter().map(|state| (state.name.clone(), Arc::new(state))).collect();
        StateStore { states: Mutex::default(), of_server, max_n_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Tenant, String), Arc<NamedState>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tenant's state of this name.
    pub(crate) fn get(&self, tenant: Tenant, name: &str) -> Result<Arc<NamedState>, ApiError> {
        if let Some(state) = self.of_server.get(name) {
            return Ok(state.clone());
        }
        let found = self.lock().get(&(tenant, name.to_owned())).cloned();
        found.ok_or_else(|| self.unknown(tenant, name))
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

    /// The states that the tenant may begin from: the server's, then its own, each by name.
    pub(crate) fn list(&self, tenant: Tenant) -> Vec<Arc<NamedState>> {
        let states = self.lock();
        let own = states.iter().filter(|((owner, _), _)| *owner == tenant).map(|(_, state)| state);
        self.of_server.values().chain(own).cloned().collect()
    }

    /// Forgets the tenant's state of this name. Errors: it has none, or the state belongs to the server.
    pub(crate) fn delete(&self, tenant: Tenant, name: &str) -> Result<(), ApiError> {
        self.check_own(name)?;
        let removed = self.lock().remove(&(tenant, name.to_owned()));
        removed.map(drop).ok_or_else(|| self.unknown(tenant, name))
    }

    /// Checks that no state of the server has this name.
    pub(crate) fn check_own(&self, name: &str) -> Result<(), ApiError> {
        match self.of_server.contains_key(name) {
            true => {
                let message =
                    format!("name: {name:?} is a state of the server, which stays as it is; take another name");
                Err(ApiError::invalid("name", message).with_code("state_of_server"))
            }
            false => Ok(()),
        }
    }

    fn unknown(&self, tenant: Tenant, name: &str) -> ApiError {
        let name: String = name.chars().take(MAX_NAME_LEN).collect();
        let known: Vec<String> = self.list(tenant).iter().map(|state| format!("{:?}", state.name)).collect();
        let (some, more) = (known.len().min(MAX_TOLD), known.len() > MAX_TOLD);
        let known = match &known[..some] {
            [] => "there are none".to_owned(),
            known => format!("there are {}{}", known.join(", "), if more { " and others" } else { "" }),
        };
        let message = format!("there is no state {name:?}: {known}; GET /v1/states lists them");
        ApiError::new(StatusCode::NOT_FOUND, Some("state_not_found"), message).at("state")
    }

    /// Keeps a state, in place of one of the same name if there is one.
    ///
    /// Errors: the tenant would have too many bytes.
    pub(crate) fn insert(&self, tenant: Tenant, state: NamedState) -> Result<Arc<NamedState>, ApiError> {
        self.check_own(&state.name)?;
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

/// What a name must be; it is never a path.
pub(crate) fn check_text(name: &str) -> Result<(), String> {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match (1..=MAX_NAME_LEN).contains(&name.len()) && name.chars().all(is_letter) {
        true => Ok(()),
        false => Err(format!("expected 1 to {MAX_NAME_LEN} letters, digits, - and _")),
    }
}

/// Checks the name in a request.
pub(crate) fn check_name(name: &str) -> Result<(), ApiError> {
    check_text(name).map_err(|reason| ApiError::invalid("name", format!("name: {reason}")))
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
