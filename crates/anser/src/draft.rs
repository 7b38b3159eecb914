//! Draft models: smaller models with the vocabulary of another one, which propose tokens that it verifies.

use crate::error::Error;
use crate::model::{Model, WeakModel};
use crate::rows::DraftPace;
use std::sync::{Arc, Mutex, PoisonError};

/// A draft model, and how many tokens it proposes at a time.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The draft model. Its vocabulary must be that of the model that verifies ([`Model::check_draft`]).
    pub model: Model,
    /// The number of tokens to propose for a text in each step, 1 to 32. With `None` the number follows from the times that steps
    /// take and from how many proposals were right: the draft model rests where texts would take longer with it, and is tried again from
    /// time to time.
    pub n_tokens: Option<usize>,
}

impl Draft {
    /// A draft model that proposes tokens where that saves time.
    pub fn new(model: &Model) -> Draft {
        Draft { model: model.clone(), n_tokens: None }
    }
}

/// The draft models that a model was used with, and what was measured of each.
#[derive(Default)]
pub(crate) struct Drafts(Mutex<Vec<(WeakModel, Arc<Mutex<DraftPace>>)>>);

impl Model {
    /// Checks that `draft` may propose tokens for this model ([`GenerateOptions::draft`](crate::GenerateOptions::draft)): its vocabulary
    /// must have the same size and the same bytes for every token.
    ///
    /// # Errors
    /// [`Error::Option`] names both models and the first difference.
    pub fn check_draft(&self, draft: &Model) -> Result<(), Error> {
        let refuse = |difference: String| {
            let (name, drafts) = (self.name(), draft.name());
            let reason =
                format!("the draft model {drafts} must have the vocabulary of the model {name}, but {difference}");
            Err(Error::Option { option: "draft", reason })
        };
        if self.is(draft) {
            return Ok(());
        }
        let (n_tokens, n_of_draft) = (self.config().n_vocab, draft.config().n_vocab);
        if n_tokens != n_of_draft {
            return refuse(format!("the model has {n_tokens} tokens and the draft model {n_of_draft}"));
        }
        let (own, other) = match (self.tokenizer(), draft.tokenizer()) {
            (Ok(own), Ok(other)) => (own, other),
            // Neither vocabulary is known, and the ids are all there is.
            (Err(_), Err(_)) => return Ok(()),
            (Ok(_), Err(error)) | (Err(error), Ok(_)) => return refuse(format!("one of them is not known: {error}")),
        };
        let differs = |id: &u32| own.token_bytes(*id) != other.token_bytes(*id);
        let Some(id) = (0..n_tokens as u32).find(differs) else { return Ok(()) };
        let shown = |bytes: Option<&[u8]>| match bytes {
            Some(bytes) => format!("\"{}\"", bytes.escape_ascii()),
            None => "no text".into(),
        };
        let [own, other] = [own, other].map(|tokenizer| shown(tokenizer.token_bytes(id)));
        refuse(format!("token {id} is {own} in the model and {other} in the draft model"))
    }

    /// Checks that the draft model of `draft` may propose tokens for this model, and returns what was measured of it.
    ///
    /// Errors: as [`Model::check_draft`]; a number of tokens out of range; [`Error::Forked`].
    pub(crate) fn pace_with(&self, draft: &Draft) -> Result<Arc<Mutex<DraftPace>>, Error> {
        const MAX_TOKENS: usize = 32;

        match draft.n_tokens {
            Some(n) if !(1..=MAX_TOKENS).contains(&n) => {
                let reason = format!("expected 1 to {MAX_TOKENS} tokens to propose, found {n}");
                Err(Error::Option { option: "draft", reason })
            }
            Some(_) | None => self.pace_with_model(&draft.model),
        }
    }

    /// What was measured of `draft` as a draft model of this one.
    ///
    /// Errors: as [`Model::check_draft`]; [`Error::Forked`].
    fn pace_with_model(&self, draft: &Model) -> Result<Arc<Mutex<DraftPace>>, Error> {
        // In a forked child, a thread of the parent that held the lock does not exist.
        self.check_process()?;
        let lock = || self.drafts().0.lock().unwrap_or_else(PoisonError::into_inner);
        let find = |drafts: &[(WeakModel, Arc<Mutex<DraftPace>>)]| {
            drafts.iter().find(|(model, _)| model.is_of(draft)).map(|(_, pace)| pace.clone())
        };
        let known = find(&lock());
        if let Some(pace) = known {
            return Ok(pace);
        }
        self.check_draft(draft)?;
        let mut drafts = lock();
        drafts.retain(|(model, _)| !model.is_closed());
        Ok(find(&drafts).unwrap_or_else(|| {
            let pace = Arc::default();
            drafts.push((draft.downgrade(), Arc::clone(&pace)));
            pace
        }))
    }
}
