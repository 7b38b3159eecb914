//! Engine errors as Python exceptions. The classes are written in Python, in `anser/_errors.py`.

use pyo3::PyErr;
use std::error::Error as _;
use std::io;

pyo3::import_exception!(anser._errors, BusyError);
pyo3::import_exception!(anser._errors, CancelledError);
pyo3::import_exception!(anser._errors, ClosedError);
pyo3::import_exception!(anser._errors, DeviceError);
pyo3::import_exception!(anser._errors, FileError);
pyo3::import_exception!(anser._errors, MissingFileError);
pyo3::import_exception!(anser._errors, ModelError);
pyo3::import_exception!(anser._errors, OptionError);
pyo3::import_exception!(anser._errors, StateError);
pyo3::import_exception!(anser._errors, TokenError);

/// The exception for `error`, with the engine's message.
pub(crate) fn exception(error: anser::Error) -> PyErr {
    use anser::Error;
    let message = error.to_string();
    let mut cause = error.source();
    if let Error::Io { source, .. } = &error {
        cause = Some(source);
    }
    while let Some(error) = cause {
        match error.downcast_ref::<io::Error>() {
            Some(io) if io.kind() == io::ErrorKind::NotFound => return MissingFileError::new_err(message),
            Some(_) => return FileError::new_err(message),
            None => cause = error.source(),
        }
    }
    match error {
        Error::Format(_) | Error::Model(_) | Error::Tokenizer { .. } | Error::NotFinite { .. } => {
            ModelError::new_err(message)
        }
        Error::Output { .. } => FileError::new_err(message),
        Error::Gpu(anser::GpuError::Switch { .. }) => OptionError::new_err(message),
        Error::Cpu(_) | Error::Gpu(_) | Error::Forked => DeviceError::new_err(message),
        Error::Step(_) | Error::Decode(_) => TokenError::new_err(message),
        Error::State(_) | Error::StateFile { .. } => StateError::new_err(message),
        Error::Sampler(_) | Error::Option { .. } | Error::Grammar { .. } => OptionError::new_err(message),
        Error::Cancelled => CancelledError::new_err(message),
        _ => anser_error(message),
    }
}

/// The exception for errors that have no class of their own.
fn anser_error(message: String) -> PyErr {
    pyo3::import_exception!(anser._errors, AnserError);
    AnserError::new_err(message)
}
