//! The states that prompts begin from.

use crate::event::Saved;
use crate::request::Tenant;
use anser::{Error, Model, Session, State};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The state that a prompt begins from.
#[derive(Debug, Clone, Default)]
pub enum Start {
    /// A fresh one.
    #[default]
    Fresh,
    /// A tuned initial state: the prompt begins a document there, as it does in a fresh state. States after its turns are cached apart from
    /// those of other initial states.
    Tuned(Arc<Tuned>),
    /// A state of the engine's model, in the middle of a text.
    State(Arc<Saved>),
}

/// An initial state that was found by tuning, with a digest of its numbers.
#[derive(Debug)]
pub struct Tuned {
    state: State,
    digest: [u8; 32],
}

impl Tuned {
    /// The initial state `state`.
    pub fn new(state: State) -> Tuned {
        let mut hash = Sha256::new();
        for numbers in state.data().chunks(1 << 12) {
            hash.update(numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        }
        Tuned { state, digest: hash.finalize().into() }
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }
}

impl Start {
    /// Whether the prompt begins a document, so that states after its turns can be told by its tokens.
    pub(crate) fn begins_document(&self) -> bool {
        match self {
            Start::Fresh | Start::Tuned(_) => true,
            Start::State(_) => false,
        }
    }

    /// The owner of cached states after prompts of `tenant` that begin here: equal tokens after other initial states are other states.
    /// A tenant's number is a secret's digest or its place in a list, so the number that stands for it together with a tuned state is taken
    /// from a hash of both.
    pub(crate) fn cached_for(&self, tenant: Tenant) -> Tenant {
        let Start::Tuned(tuned) = self else { return tenant };
        let mut hash = Sha256::new();
        hash.update(b"tuned state of a tenant");
        hash.update(tenant.0.to_le_bytes());
        hash.update(tuned.digest);
        let digest: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        Tenant(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    /// A session that stands here.
    pub(crate) fn session(&self, model: &Model) -> Result<Session, Error> {
        let mut session = model.session()?;
        match self {
            Start::Fresh => {}
            Start::Tuned(tuned) => session.begin_from(tuned.state())?,
            Start::State(saved) => session.resume(&saved.state, &saved.logits)?,
        }
        Ok(session)
    }
}
