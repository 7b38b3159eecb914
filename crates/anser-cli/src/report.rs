//! The end of a run: its exit code, and one line on stderr that names the failure and what to do.

use crate::term;
use anser::sampler::SamplerError;

/// Exit code of a failure: of a file, of a device, of damaged numbers.
pub(crate) const FAILURE: u8 = 1;
/// Exit code of wrong arguments.
const USAGE: u8 = 2;
/// Exit code of a comparison that found a loss.
const LOSS: u8 = 3;
/// Exit code after Ctrl-C: 128 + SIGINT, as shells count it.
pub(crate) const INTERRUPTED: u8 = 130;

/// The reason for which a command ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments are wrong; the message names the argument.
    Usage(String),
    /// Something failed; the message names the cause and what to do.
    Run(String),
    /// `bench --compare` found a loss; the message lists the figures.
    Loss(String),
    /// The user pressed Ctrl-C. The results up to then have been printed.
    Interrupted,
    /// The reader of standard output closed it, as `| head` does, and wants no more output.
    PipeClosed,
}

impl Failure {
    /// A failure that concerns the file, or other thing, called `name`.
    pub(crate) fn about(name: impl std::fmt::Display, cause: impl std::fmt::Display) -> Failure {
        Failure::Run(format!("{name}: {cause}"))
    }
}

impl From<anser::Error> for Failure {
    fn from(error: anser::Error) -> Failure {
        match error {
            anser::Error::Cancelled => Failure::Interrupted,
            anser::Error::Gpu(error @ anser::GpuError::Switch { .. }) => {
                Failure::Usage(format!("the environment variable {error}"))
            }
            anser::Error::Option { option, reason } => Failure::Usage(format!("{option}: {reason}")),
            anser::Error::Sampler(error) => error.into(),
            other => Failure::Run(other.to_string()),
        }
    }
}

impl From<SamplerError> for Failure {
    fn from(error: SamplerError) -> Failure {
        let flag = |option: &str| format!("--{}", option.replace('_', "-"));
        match &error {
            SamplerError::OutOfRange { option, .. } => {
                Failure::Usage(error.to_string().replacen(option, &flag(option), 1))
            }
            SamplerError::BiasToken { .. } | SamplerError::BiasValue { .. } => {
                Failure::Usage(error.to_string().replacen("logit_bias", &flag("logit_bias"), 1))
            }
            _ => Failure::Run(error.to_string()),
        }
    }
}

/// Prints the message of a failure, if there is one, and returns the exit code.
pub(crate) fn exit_code(outcome: Result<(), Failure>) -> u8 {
    match outcome {
        Ok(()) | Err(Failure::PipeClosed) => 0,
        Err(Failure::Interrupted) => INTERRUPTED,
        Err(Failure::Usage(message)) => {
            term::complain(&message);
            USAGE
        }
        Err(Failure::Run(message)) => {
            term::complain(&message);
            FAILURE
        }
        Err(Failure::Loss(message)) => {
            term::complain(&message);
            LOSS
        }
    }
}
