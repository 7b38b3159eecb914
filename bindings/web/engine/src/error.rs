//! Errors as JavaScript sees them.

use anser::Error;
use wasm_bindgen::JsValue;

/// The `code` of an error of the package, by which programs tell errors apart.
pub fn code(error: &Error) -> &'static str {
    match error {
        Error::Format(_) | Error::Model(_) => "model",
        Error::State(_) | Error::StateFile { .. } => "state",
        Error::Tokenizer { .. } | Error::Decode(_) => "tokenizer",
        Error::Step(_) | Error::Sampler(_) | Error::Grammar { .. } | Error::Option { .. } => "option",
        Error::NotFinite { .. } => "numbers",
        Error::Cancelled => "cancelled",
        error if error.is_out_of_memory() => "memory",
        error if error.is_device_lost() => "lost",
        Error::Gpu(_) => "device",
        // The enum may grow; what is not told apart has gone wrong in the engine.
        _ => "engine",
    }
}

/// The error for JavaScript: its message and its code.
pub(crate) fn thrown(error: Error) -> JsValue {
    with_code(code(&error), &error.to_string())
}

/// An error about an option or an argument.
pub(crate) fn refused(message: &str) -> JsValue {
    with_code("option", message)
}

fn with_code(code: &str, message: &str) -> JsValue {
    let error = js_sys::Error::new(message);
    // Setting a property of a new object cannot fail.
    let _ = js_sys::Reflect::set(&error, &"code".into(), &code.into());
    error.into()
}
