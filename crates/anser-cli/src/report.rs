//! How a run ends: exit codes, and one line on stderr that says what went wrong and what to do.

use crate::term;
use anser::sampler::SamplerError;
use std::process::ExitCode;

/// Exit code of a failure: a file, a device, numbers that are no model.
pub(crate) const FAILURE: u8 = 1;
/// Exit code of flags and options that cannot be followed.
const USAGE: u8 = 2;
/// Exit code after Ctrl-C: 128 + SIGINT, as shells count it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments cannot be followed; the message names the one concerned.
    Usage(String),
    /// Something failed; the message names the cause and what to do.
    Run(String),
    /// Ctrl-C. What there was until then has been printed.
    Interrupted,
    /// Nobody reads the output any more, as after `| head`: the rest is not wanted.
    PipeClosed,
}

impl Failure {
    /// A failure that is about the file, or other thing, called `name`.
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

/// Says what went wrong, if anything did, and gives the exit code for it.
pub(crate) fn exit_code(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) | Err(Failure::PipeClosed) => ExitCode::SUCCESS,
        Err(Failure::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(Failure::Usage(message)) => {
            term::complain(&message);
            ExitCode::from(USAGE)
        }
        Err(Failure::Run(message)) => {
            term::complain(&message);
            ExitCode::from(FAILURE)
        }
    }
}
