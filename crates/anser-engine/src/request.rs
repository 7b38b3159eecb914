//! What an engine is asked for, and why it refuses.

use crate::limits::Limits;
use crate::start::Start;
use anser::stop::StopMatcher;
use anser::{EmbedOptions, Error, GenerateOptions, Model};
use std::time::{Duration, Instant};
use thiserror::Error as ThisError;

/// A piece of work for an engine.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where the prompt begins.
    pub start: Start,
    /// The tokens to read.
    pub prompt: Vec<u32>,
    /// What to do with them.
    pub work: Work,
    /// Whose request it is.
    pub tenant: Tenant,
    /// The time at which the request fails if it is not complete.
    pub deadline: Option<Instant>,
    /// What to keep of it.
    pub keep: Keep,
}

/// What a request does with its prompt.
#[derive(Debug, Clone)]
pub enum Work {
    /// Generates texts that follow it.
    Generate {
        /// The options of each text. The prompt is read once for all.
        choices: Vec<GenerateOptions>,
        /// The number of most likely tokens to report with the log-probability of each token drawn; `None` reports neither.
        n_top: Option<usize>,
    },
    /// Reports the log-probabilities of its tokens.
    Score {
        /// The number of most likely tokens to report for each.
        n_top: usize,
    },
    /// Pools its hidden rows to an embedding. Always begins from a fresh state.
    Embed(EmbedOptions),
    /// Pools the hidden rows of each of several texts, which are read side by side, each from a fresh state. The prompt is not read.
    EmbedMany {
        /// The options of all.
        options: EmbedOptions,
        /// The tokens of each text.
        texts: Vec<Vec<u32>>,
    },
    /// Reads its state.
    State,
}

/// The owner of requests, for example the holder of a key. Tenants take turns, and none gets anything from the cached states of
/// another, so that no tenant can find out by the time of an answer what others have asked.
///
/// States on disk are found again by the same number: derive it from a name or key by a cryptographic hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tenant(pub u64);

/// What an engine keeps of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keep {
    /// Lengths of beginnings of the prompt, in tokens, after which the state is cached: the ends of turns. Only of prompts that begin
    /// from a fresh or a tuned state.
    pub turns: Vec<usize>,
    /// Whether the state after a generated text is cached.
    pub answer: bool,
    /// Whether the state after a generated text is handed out with [`Event::Ended`](crate::Event::Ended).
    pub state: bool,
}

/// The reason for which a request was not accepted.
#[derive(Debug, ThisError)]
pub enum Refusal {
    /// Too many requests wait.
    #[error("{n_waiting} requests wait already: try again in {} s", retry_after.as_secs())]
    Full {
        /// The number of requests that wait, of all tenants or of this one.
        n_waiting: usize,
        /// The time after which there will most likely be room, in whole seconds.
        retry_after: Duration,
    },
    /// A part of the request is larger than the engine takes.
    #[error("{what}: expected at most {max}, found {found}")]
    TooLarge {
        /// The part.
        what: &'static str,
        /// The most.
        max: usize,
        /// The request's.
        found: usize,
    },
    /// The request has an option or id that is out of range.
    #[error(transparent)]
    Invalid(Error),
    /// The engine ends, or has ended.
    #[error("the engine is shutting down")]
    Draining,
}

impl Request {
    /// A request for one text that follows `prompt`, from a fresh state.
    pub fn generate(prompt: Vec<u32>, options: GenerateOptions) -> Request {
        Request::new(prompt, Work::Generate { choices: vec![options], n_top: None })
    }

    /// A request for some work from a fresh state, of the tenant 0 and without a deadline.
    pub fn new(prompt: Vec<u32>, work: Work) -> Request {
        let (start, tenant, keep) = (Start::Fresh, Tenant::default(), Keep::default());
        Request { start, prompt, work, tenant, deadline: None, keep }
    }

    /// The number of sequences that it needs a place for at once.
    pub(crate) fn n_rows(&self) -> usize {
        match &self.work {
            Work::Generate { choices, .. } => choices.len(),
            Work::Score { .. } | Work::State | Work::Embed(_) | Work::EmbedMany { .. } => 1,
        }
    }

    /// The texts to embed and their options, if that is the work.
    pub(crate) fn embedding(&self) -> Option<(EmbedOptions, &[Vec<u32>])> {
        match &self.work {
            Work::Embed(options) => Some((*options, std::slice::from_ref(&self.prompt))),
            Work::EmbedMany { options, texts } => Some((*options, texts)),
            Work::Generate { .. } | Work::Score { .. } | Work::State => None,
        }
    }

    /// Checks all that can be checked before anything is read.
    pub(crate) fn validate(&self, model: &Model, limits: &Limits, max_rows: usize) -> Result<(), Refusal> {
        let too_large = |what, max, found| match found > max {
            true => Err(Refusal::TooLarge { what, max, found }),
            false => Ok(()),
        };
        too_large("tokens of the prompt", limits.max_prompt_tokens, self.prompt.len())?;
        let n_vocab = model.config().n_vocab;
        let option = |option, reason| Refusal::Invalid(Error::Option { option, reason });
        model.check_ids(&self.prompt).map_err(Refusal::Invalid)?;
        let begins_anew = match &self.start {
            Start::Fresh => true,
            Start::Tuned(tuned) => {
                model.check_state(tuned.state()).map_err(Refusal::Invalid)?;
                true
            }
            Start::State(saved) => {
                model.check_state(&saved.state).map_err(Refusal::Invalid)?;
                if !saved.logits.is_empty() && saved.logits.len() != n_vocab {
                    let found = saved.logits.len();
                    return Err(option("state", format!("expected {n_vocab} logits or none, found {found}")));
                }
                false
            }
        };
        if matches!(self.work, Work::Generate { .. } | Work::Score { .. }) {
            model.check_has_logits().map_err(Refusal::Invalid)?;
        }
        match &self.work {
            Work::Generate { choices, n_top } => {
                too_large("choices", limits.max_choices.min(max_rows), choices.len())?;
                if choices.is_empty() {
                    return Err(option("choices", "expected at least one, found none".into()));
                }
                too_large("most likely tokens", n_vocab, n_top.unwrap_or(0))?;
                let has_logits = matches!(&self.start, Start::State(saved) if !saved.logits.is_empty());
                if self.prompt.is_empty() && !begins_anew && !has_logits {
                    return Err(option("prompt", "a restored state needs at least one token to go on from".into()));
                }
                for options in choices {
                    options.sampler.validate(n_vocab).map_err(|error| Refusal::Invalid(error.into()))?;
                    StopMatcher::new(options.stop.clone()).map_err(|e| option("stop", e.to_string()))?;
                    if !options.stop.is_empty() {
                        model.tokenizer().map_err(Refusal::Invalid)?;
                    }
                    // Compiling takes the time of the caller's thread, not of the engine's.
                    options.grammar.iter().try_for_each(|g| g.prepare(model)).map_err(Refusal::Invalid)?;
                }
                Ok(())
            }
            Work::Score { n_top } => too_large("most likely tokens", n_vocab, *n_top),
            Work::Embed(_) | Work::EmbedMany { .. } if !matches!(self.start, Start::Fresh) => {
                Err(option("start", "an embedding begins from a fresh state, found another one".into()))
            }
            Work::Embed(options) => model.check_embed_options(options).map_err(Refusal::Invalid),
            Work::EmbedMany { options, texts } => {
                let n_tokens = texts.iter().map(Vec::len).sum();
                too_large("tokens of all texts", limits.max_prompt_tokens, n_tokens)?;
                texts.iter().try_for_each(|text| model.check_ids(text)).map_err(Refusal::Invalid)?;
                model.check_embed_options(options).map_err(Refusal::Invalid)
            }
            Work::State => Ok(()),
        }
    }
}
