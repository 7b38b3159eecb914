//! Serves RWKV models over HTTP to clients of the OpenAI API.
//!
//! A [`Server`] answers with one or several models, each on an [`Engine`](anser_engine::Engine) of its own, which batches all requests
//! for it. `docs/serve.md` says which routes there are and what they answer. At `/` it has a page for people.
//!
//! ```no_run
//! use anser::Model;
//! use anser_engine::Limits;
//! use anser_serve::{Listener, Options, ServedModel, Server};
//! use std::net::TcpListener;
//! use std::time::{Duration, SystemTime};
//!
//! let model = Model::load("rwkv7-g1-0.4b-q8_0.gguf", &anser::Options::default())?;
//! let served = ServedModel { model, names: vec!["rwkv".into()], created: SystemTime::now(), limits: Limits::default(), states: vec![], is_adapted: false, reranker: None };
//! let listener = Listener::Tcp(TcpListener::bind("127.0.0.1:8080")?);
//! let server = Server::new(vec![served], listener, Options::default())?;
//! let stop = server.stop_handle(); // what a signal handler calls
//! server.run(Duration::from_secs(30))?;
//! # drop(stop);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// wgpu's types are nested more than 128 levels deep, as in the library `anser`.
#![recursion_limit = "256"]

mod answer;
mod app;
mod blocking;
mod body;
mod calls;
mod chat;
mod connection;
mod error;
mod flight;
mod generate;
mod guard;
mod ids;
mod keys;
mod likelihoods;
mod meter;
mod metrics;
mod options;
mod page;
mod pairs;
mod responses;
mod routes;
mod served;
mod server;
mod sse;
mod states;
mod transcripts;
mod wire;

pub use keys::Keys;
pub use options::{Bounds, Options, ServedModel};
pub use server::{Listener, ServeError, Server, Stop};
