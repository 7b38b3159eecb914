//! Log-probabilities as JSON.

use anser::Likelihood;
use serde::Serialize;

/// A token's log-probability, and the most likely tokens in its place.
#[derive(Serialize)]
pub(super) struct TokenLikelihood {
    id: u32,
    logprob: f32,
    top: Vec<(u32, f32)>,
}

impl TokenLikelihood {
    pub(super) fn of(Likelihood { token, log_probability, top }: Likelihood) -> TokenLikelihood {
        TokenLikelihood { id: token, logprob: log_probability, top }
    }
}
