//! Serves many requests with one model.
//!
//! An [`Engine`] is a thread that owns the model's sequences. Requests come in from any thread and are batched: each step reads a
//! token of every text that is being generated and some tokens of prompts, so that every weight is read once for all of them.
//! What a request gives comes out as [`Event`]s, by a callback that must not block.
//!
//! ```no_run
//! use anser::{GenerateOptions, Model, Options};
//! use anser_engine::{Engine, Event, Limits, Request};
//!
//! let model = Model::load("rwkv7-g1-0.4b-q8_0.gguf", &Options::default())?;
//! let prompt = model.encode("Once upon a time")?;
//! let engine = Engine::start(model, Limits::default());
//! let (to, from) = anser_engine::channel(256);
//! let ticket = engine.submit(Request::generate(prompt, GenerateOptions::default()), to)?;
//! for event in from {
//!     if let Event::Text { piece, .. } = event {
//!         print!("{}", piece.text);
//!     }
//! }
//! drop(ticket);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The crate knows threads and channels, and neither HTTP nor JSON.

// To find out whether an `Engine` may be shared between threads, the compiler and rustdoc examine all types of wgpu,
// which are nested more than 128 levels deep.
#![recursion_limit = "256"]

mod admission;
mod cache;
mod delivery;
mod disk;
mod engine;
mod event;
mod job;
mod limits;
mod pace;
mod queue;
mod request;
mod scheduler;
mod start;
mod stats;
mod ticket;
mod turns;

pub use delivery::{Delivery, channel};
pub use engine::Engine;
pub use event::{Event, Failure, Saved, Usage};
pub use limits::{CacheLimits, Limits, Reload};
pub use request::{Keep, Refusal, Request, Tenant, Work};
pub use start::{Start, Tuned};
pub use stats::Stats;
pub use ticket::Ticket;
pub use turns::Turns;
