//! The fields with which a request says how it wants its answer.

use crate::error::ApiError;
use serde::Deserialize;

/// The most tokens that are reported in the place of each token.
pub(crate) const MAX_TOP: usize = 20;

/// `stream` and `stream_options`.
#[derive(Debug, Deserialize)]
pub(crate) struct Streaming {
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// How an answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sending {
    Whole,
    Streamed { with_usage: bool },
}

impl Streaming {
    pub(crate) fn check(&self) -> Result<Sending, ApiError> {
        match (self.stream.unwrap_or(false), &self.stream_options) {
            (false, Some(_)) => {
                Err(ApiError::invalid("stream_options", "stream_options: only a request with \"stream\": true has any"))
            }
            (false, None) => Ok(Sending::Whole),
            (true, options) => {
                let with_usage = options.as_ref().and_then(|options| options.include_usage).unwrap_or(false);
                Ok(Sending::Streamed { with_usage })
            }
        }
    }
}

/// Checks a number of most likely tokens.
pub(crate) fn check_top(name: &'static str, n: usize) -> Result<usize, ApiError> {
    match n {
        0..=MAX_TOP => Ok(n),
        _ => Err(ApiError::invalid(name, format!("{name}: expected 0 to {MAX_TOP}, found {n}"))),
    }
}
