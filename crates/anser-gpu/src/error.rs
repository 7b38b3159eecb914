use anser_model::{StateError, StepError};
use thiserror::Error;

/// Why the GPU cannot do what was asked. Every message names the cause and the way out.
#[derive(Debug, Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum GpuError {
    /// No driver offers an adapter.
    #[error(
        "no GPU found: no {backends} driver offers one; install the GPU's driver (on Linux also the Vulkan loader \
         libvulkan1), or run on the CPU with --device cpu"
    )]
    NoAdapter {
        /// The graphics interfaces that were asked, e.g. `Vulkan`.
        backends: &'static str,
    },
    /// The wish names no adapter of this machine.
    #[error("there is no device {wanted}; this machine has {available}")]
    UnknownDevice {
        /// The wish.
        wanted: String,
        /// The adapters with their numbers.
        available: String,
    },
    /// Only software adapters, which are slower than the CPU executor and used only when named.
    #[error(
        "no hardware GPU found, only software: {available}; name one (--device gpu:0) to use it all the same, or run on \
         the CPU with --device cpu"
    )]
    OnlySoftware {
        /// The adapters with their numbers.
        available: String,
    },
    /// The text is no wish for a device.
    #[error("{text:?} is not a device: expected auto, gpu, gpu:NUMBER or gpu:NAME")]
    MalformedChoice {
        /// The text.
        text: String,
    },
    /// An environment variable that is neither on nor off.
    #[error(
        "{name}: expected 1, true, yes or on, or 0, false, no or off (an empty value counts as not set), found {found:?}"
    )]
    Switch {
        /// Name of the variable.
        name: &'static str,
        /// Its value.
        found: String,
    },
    /// The adapter cannot bind or run what the model needs.
    #[error("{adapter}: {limit} is {found}, but {needed} is needed for {what}; use another device or --device cpu")]
    Limit {
        /// Name of the adapter.
        adapter: String,
        /// The limit, in the words of WebGPU.
        limit: &'static str,
        /// What the adapter has.
        found: u64,
        /// What is needed.
        needed: u64,
        /// What for.
        what: String,
    },
    /// The driver refused to open the device.
    #[error("{adapter}: the driver refused to open the device: {reason}; update the driver or use --device cpu")]
    Open {
        /// Name of the adapter.
        adapter: String,
        /// The driver's word.
        reason: String,
    },
    /// The device's memory is full.
    #[error(
        "{adapter}: out of memory while allocating {what}; close other programs on the device, use a more strongly \
         quantized file or fewer sequences, or run on the CPU with --device cpu"
    )]
    OutOfMemory {
        /// Name of the adapter.
        adapter: String,
        /// What did not fit.
        what: String,
    },
    /// A budget that holds too little of the model.
    #[error(
        "{adapter}: {budget} bytes of GPU memory are too few: streaming this model's weights takes at least {least}; allow \
         that, or run on the CPU with --device cpu"
    )]
    Budget {
        /// Name of the adapter.
        adapter: String,
        /// What was allowed.
        budget: u64,
        /// What is needed.
        least: u64,
    },
    /// Weights that are on the device one after another cannot be profiled.
    #[error(
        "{adapter} streams weights in every step, which hides what kernels take; give it more memory to profile it"
    )]
    Streams {
        /// Name of the adapter.
        adapter: String,
    },
    /// The model file could not be read, or changed.
    #[error("reading weights: {reason}")]
    File {
        /// What happened to it.
        reason: String,
    },
    /// Whoever was told of the progress of loading ended it.
    #[error("loading the model was cancelled; load it again")]
    Cancelled,
    /// The device is gone: a driver reset, a removed or sleeping GPU, or [`crate::Device::destroy`].
    #[error("{adapter}: the device was lost ({reason}); load the model again")]
    Lost {
        /// Name of the adapter.
        adapter: String,
        /// The driver's word.
        reason: String,
    },
    /// The driver or its shader compiler refused a valid request.
    #[error(
        "{adapter}: {what} failed: {reason}; update the driver, or try ANSER_GPU_NO_F16=1, ANSER_GPU_NO_SUBGROUPS=1"
    )]
    Driver {
        /// Name of the adapter.
        adapter: String,
        /// What was being done, e.g. the name of a kernel.
        what: String,
        /// The driver's word.
        reason: String,
    },
    /// A kernel cannot compute operations that it was chosen for: a fault of this program.
    #[error(
        "the GPU's kernel {kernel} cannot compute {operations}: {reason}; please report this, and run on the CPU with --device cpu"
    )]
    NoKernel {
        /// Name of the kernel's rule.
        kernel: &'static str,
        /// Names of the operations in the plan.
        operations: String,
        /// What it lacks.
        reason: String,
    },
    /// The device cannot time its kernels.
    #[error("{adapter} has no timestamps, so its kernels cannot be timed one by one; profile on another device")]
    NoTimestamps {
        /// Name of the adapter.
        adapter: String,
    },
    /// More rows in one step than the device's buffers hold.
    #[error("a step of {found} {what} does not fit in the device's buffers, at most {max} do; split it")]
    StepTooLarge {
        /// `tokens` or `outputs`.
        what: &'static str,
        /// Asked for.
        found: usize,
        /// Allowed.
        max: usize,
    },
    /// The step does not fit the plan.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The numbers are not a state of this model.
    #[error(transparent)]
    State(#[from] StateError),
    /// A state slot that does not exist.
    #[error("state slot {slot} does not exist")]
    UnknownSlot {
        /// The slot.
        slot: usize,
    },
}
