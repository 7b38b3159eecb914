//! What a server is told: its models, who may ask, and its bounds.

use crate::keys::Keys;
use anser::{LoadedState, Model, Reranker};
use anser_engine::Limits;
use std::time::{Duration, SystemTime};

/// A model that a server answers with.
#[derive(Debug)]
pub struct ServedModel {
    /// The model.
    pub model: Model,
    /// The names that requests may call it by, the one that answers carry first. At least one.
    pub names: Vec<String>,
    /// When its file was made, as clients are told.
    pub created: SystemTime,
    /// The bounds of its engine.
    pub limits: Limits,
    /// States that every request may begin from, by name: letters, digits, `-` and `_`.
    pub states: Vec<(String, LoadedState)>,
    /// Whether it is another one of the models with an adapter: requests that name no model do not mean it.
    pub is_adapted: bool,
    /// What ranks documents (`/v1/rerank`), if anything: a reranker for this model.
    pub reranker: Option<Reranker>,
}

/// The options of a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// The keys that requests need; without any they need none.
    pub keys: Keys,
    /// Further names by which clients reach this server, in lower case and without a port. Requests under other names than these,
    /// `localhost` and the address that they were sent to are refused, so that no web page reaches the server under a name of its own.
    pub host_names: Vec<String>,
    /// The origins, like `https://app.example`, whose web pages may ask.
    pub origins: Vec<String>,
    /// Whether requests may give regular expressions and grammars of their own as response formats.
    pub extra_grammars: bool,
    /// Whether the server has a page for people at `/`. Its files need no key; what it asks for does.
    pub has_page: bool,
    /// The bounds of requests.
    pub bounds: Bounds,
}

/// The bounds of requests and connections.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The most bytes of a body.
    pub max_body_n_bytes: usize,
    /// The most connections at a time; further ones wait until one ends.
    pub max_connections: usize,
    /// The longest time for the headers of a request, and for a connection that sends none.
    pub header_time: Duration,
    /// The longest time for a body.
    pub body_time: Duration,
    /// The longest time in which a client takes nothing of an answer.
    pub write_time: Duration,
    /// The longest time for a request from its acceptance to its last token.
    pub request_time: Duration,
    /// The time after which an event stream without anything new gets a comment, so that proxies keep it.
    pub ping_time: Duration,
    /// The most tokens that a request may ask for in one text.
    pub max_tokens: usize,
    /// The most answers of the Responses API that are kept, of all tenants.
    pub max_responses: usize,
    /// How long an answer of the Responses API is kept.
    pub response_age: Duration,
    /// The bytes of named states that a tenant may keep.
    pub states_n_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            keys: Keys::default(),
            host_names: vec![],
            origins: vec![],
            extra_grammars: false,
            has_page: true,
            bounds: Bounds::default(),
        }
    }
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            max_body_n_bytes: 16 << 20,
            max_connections: 1024,
            header_time: Duration::from_secs(10),
            body_time: Duration::from_secs(60),
            write_time: Duration::from_secs(75),
            request_time: Duration::from_secs(600),
            ping_time: Duration::from_secs(10),
            max_tokens: 131_072,
            max_responses: 10_000,
            response_age: Duration::from_secs(24 * 3600),
            states_n_bytes: 1 << 30,
        }
    }
}
