//! Handles Ctrl-C: it cancels the generation that is running, and ends the program if none is running or it was
//! cancelled before.

use crate::report;
use anser::CancelToken;
use std::sync::{Mutex, PoisonError};

static ARMED: Mutex<Option<CancelToken>> = Mutex::new(None);

/// Installs the handler. If the system refuses, Ctrl-C keeps its default action.
pub(crate) fn install() {
    let _ = ctrlc::set_handler(|| match &*ARMED.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(token) if !token.is_cancelled() => token.cancel(),
        _ => std::process::exit(report::INTERRUPTED.into()),
    });
}

/// While this value exists, the first Ctrl-C cancels the generation instead of ending the program.
pub(crate) struct Armed;

/// Makes Ctrl-C cancel `token`.
pub(crate) fn arm(token: &CancelToken) -> Armed {
    *ARMED.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
    Armed
}

impl Drop for Armed {
    fn drop(&mut self) {
        *ARMED.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
