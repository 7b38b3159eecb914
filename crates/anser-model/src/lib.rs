//! What RWKV computes: each version written once, as a linear [`Plan`] of operations that executors run.
//!
//! Read [`v7`] first: it follows the published reference line by line. [`plan`] defines the closed vocabulary of
//! operations ([`Op`]), [`config`] finds the sizes in a model file, [`Source`] finds its tensors by name and checks
//! their shapes, [`state`] describes the recurrent state, [`step`] what one call of an executor is asked to do, and
//! [`cases`] holds one-operation plans that every executor is tested and timed with.
//!
//! # Glossary
//! Shapes are written slowest dimension first, with the same letters everywhere:
//!
//! | letter | meaning |
//! |---|---|
//! | B | sequences in one step |
//! | T | tokens in one step, all sequences together |
//! | O | token rows whose output is wanted (`Step::outputs`) |
//! | C | width of the residual stream (`n_embd`) |
//! | H, N | heads and head size, C = H·N |
//! | F | width of the feed-forward layer (`n_ffn`) |
//! | R | inner width of a low-rank pair |
//! | L | layers |
//! | V | vocabulary |
//!
//! This crate does no I/O, starts no threads and runs no loop over activations.

pub mod arwkv7;
mod builder;
pub mod cases;

pub mod config;
mod dialect;
mod dump;
mod error;
mod frame;
mod hybrid;
mod identity;
pub mod lora;
mod names;
pub mod plan;
pub mod rwkv6qwen2;
mod source;
pub mod state;
pub mod step;
pub mod v4;
pub mod v5;
pub mod v6;
pub mod v7;
pub mod weights;

pub use builder::PlanBuilder;
pub use config::{Config, Version};
pub use error::ModelError;
pub use identity::Identity;
pub use names::{gguf_name, web_rwkv_name};
pub use plan::{Activation, Decay, Node, Op, Plan, Rows, Value, ValueId, WeightId};
pub use source::Source;
pub use state::{State, StateError, StateLayout, StatePart, StateRef, all_finite};
pub use step::{Sequence, Step, StepError};
pub use weights::{Columns, Weight};

use anser_format::ModelFile;
use std::sync::Arc;

/// Reads the sizes of `file`, finds and checks its weights, and writes down what the model computes.
///
/// Touches the file's index and a handful of small tensors only; no weight is copied.
pub fn load(file: &Arc<ModelFile>) -> Result<(Config, Plan), ModelError> {
    let config = Config::from_file(file)?;
    let mut plan = match config.version {
        Version::V4 => v4::plan(file, &config)?,
        Version::V5 => v5::plan(file, &config)?,
        Version::V6 => v6::plan(file, &config)?,
        Version::V7 | Version::V7a => v7::plan(file, &config)?,
        Version::Rwkv6Qwen2 => rwkv6qwen2::plan(file, &config)?,
        Version::Arwkv7 => arwkv7::plan(file, &config)?,
    };
    if let Some(variant) = file.variant() {
        // The identity of the model has the title, so that states of the model and of its variants are told apart.
        plan.title = format!("{} {variant}", plan.title);
    }
    Ok((config, plan))
}
