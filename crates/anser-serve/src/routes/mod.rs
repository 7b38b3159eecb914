//! The routes, one file for each kind of thing.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod health;
pub(crate) mod models;
pub(crate) mod page;
pub(crate) mod rerank;
pub(crate) mod responses;
pub(crate) mod states;
pub(crate) mod tokens;
