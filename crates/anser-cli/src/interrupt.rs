//! Ctrl-C: cancels the generation that is under way, and ends the program where there is none or it was cancelled
//! already.

use crate::report;
use anser::CancelToken;
use std::sync::{Mutex, PoisonError};

static ARMED: Mutex<Option<CancelToken>> = Mutex::new(None);

/// Installs the handler. Where the system refuses, Ctrl-C keeps its usual meaning.
pub(crate) fn install() {
    let _ = ctrlc::set_handler(|| match &*ARMED.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(token) if !token.is_cancelled() => token.cancel(),
        _ => std::process::exit(report::INTERRUPTED.into()),
    });
}

/// While it lives, the first Ctrl-C cancels instead of ending the program.
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
