//! What stays on a device between steps: the weights, how they get there, and the states of sequences.

pub(crate) mod layout;
mod order;
mod readback;
#[cfg_attr(target_arch = "wasm32", path = "residency_web.rs")]
mod residency;
pub(crate) mod state;
pub(crate) mod upload;
mod upload_plan;
pub(crate) mod weights;

pub use state::SlotId;
pub use upload_plan::{OnProgress, Progress};
