use thiserror::Error;

/// An error of the library. Its message names the file, option or id concerned, what was expected and what was found.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read as GGUF, safetensors or PyTorch.
    #[error(transparent)]
    Format(#[from] anser_format::FormatError),
    /// The file holds no model that Anser can run.
    #[error(transparent)]
    Model(#[from] anser_model::ModelError),
    /// The CPU executor cannot be set up.
    #[error(transparent)]
    Cpu(#[from] anser_cpu::CpuError),
    /// A step was refused: a token id out of range.
    #[error(transparent)]
    Step(#[from] anser_model::StepError),
    /// Numbers that are not a state of this model.
    #[error(transparent)]
    State(#[from] anser_model::StateError),
    /// A state file that cannot be used.
    #[error("{file}: {reason}")]
    StateFile {
        /// Name of the file.
        file: String,
        /// The fault, and what was expected.
        reason: String,
    },
    /// The model has no tokenizer, or an unusable one.
    #[error("{file}: {reason}")]
    Tokenizer {
        /// Name of the model file.
        file: String,
        /// The fault, and what to do.
        reason: String,
    },
    /// Ids that cannot be decoded.
    #[error(transparent)]
    Decode(#[from] anser_tokenizer::DecodeError),
    /// Sampling options or logits that no token can be drawn from.
    #[error(transparent)]
    Sampler(#[from] crate::sampler::SamplerError),
    /// A grammar cannot be used, or leaves no token to draw.
    #[error("{kind}: {reason}")]
    Grammar {
        /// What the grammar was made from: `JSON schema`, `regular expression` or `Lark grammar`.
        kind: &'static str,
        /// The fault.
        reason: String,
    },
    /// Another option is out of range.
    #[error("{option}: {reason}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// The values that are allowed.
        reason: String,
    },
    /// The GPU cannot be used, or failed.
    #[error(transparent)]
    Gpu(#[from] anser_gpu::GpuError),
    /// The caller cancelled. The session's state holds the tokens that were read until then.
    #[error("cancelled")]
    Cancelled,
    /// The process was forked after the model was loaded, and this is the child. It has neither the model's threads nor
    /// its GPU.
    #[error("this process was forked after the model was opened: load it here")]
    Forked,
    /// The function would wait for a GPU, which a browser does not allow. Nothing has happened.
    #[error(
        "this would wait for the GPU, which a browser does not allow: call the function of this name that ends in _async"
    )]
    MustWait,
    /// Another call has the model's executor and waits for the GPU, in a browser, where this one must not wait for it.
    #[error("another call of this model waits for the GPU: begin this one when that has ended")]
    Busy,
    /// The model computed a number that is not finite.
    #[error("{file}: {what} is {value}: the weights are damaged, or left their number format")]
    NotFinite {
        /// Name of the model file.
        file: String,
        /// A description of the number.
        what: String,
        /// The number: NaN or an infinity.
        value: f32,
    },
    /// An output would overwrite a file that is read.
    #[error("{file}: {reason}")]
    Output {
        /// Name of the output.
        file: String,
        /// The input that it would overwrite, and what to do.
        reason: String,
    },
    /// Reading or writing a file failed.
    #[error("{file}: {source}")]
    Io {
        /// Name of the file.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether the device had no room for what was asked, so that it may succeed later or with fewer sequences.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Error::Gpu(anser_gpu::GpuError::OutOfMemory { .. } | anser_gpu::GpuError::Limit { .. }))
    }

    /// Whether the device is gone, so that the model must be loaded again.
    pub fn is_device_lost(&self) -> bool {
        matches!(self, Error::Gpu(anser_gpu::GpuError::Lost { .. }))
    }

    pub(crate) fn io(file: &std::path::Path, source: std::io::Error) -> Error {
        Error::Io { file: file.display().to_string(), source }
    }
}
