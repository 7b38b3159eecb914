//! What clients send and get, as JSON.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod content;
pub(crate) mod prompts;
pub(crate) mod responses;
pub(crate) mod sampling;
pub(crate) mod stream;
pub(crate) mod usage;
