//! Handles Ctrl-C: it cancels the generation that is running, and ends the program if none is running or it was
//! cancelled before.

use crate::report;
use anser::CancelToken;
use std::sync::{Mutex, PoisonError};

/// What Ctrl-C does instead of ending the program. It returns false if it has nothing more to do, so that the program ends.
type Action = Box<dyn FnMut() -> bool + Send>;

static ARMED: Mutex<Option<Action>> = Mutex::new(None);

/// Installs the handler. If the system refuses, Ctrl-C keeps its default action.
pub(crate) fn install() {
    let _ = ctrlc::set_handler(|| {
        let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
        if !armed.as_mut().is_some_and(|action| action()) {
            std::process::exit(report::INTERRUPTED.into());
        }
    });
}

/// While this value exists, the first Ctrl-C does what was asked for instead of ending the program.
pub(crate) struct Armed;

/// Makes Ctrl-C cancel `token`.
pub(crate) fn arm(token: &CancelToken) -> Armed {
    let token = token.clone();
    arm_with(move || {
        let is_first = !token.is_cancelled();
        token.cancel();
        is_first
    })
}

/// Makes Ctrl-C call `action`, and end the program if that returns false.
pub(crate) fn arm_with(action: impl FnMut() -> bool + Send + 'static) -> Armed {
    *ARMED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(action));
    Armed
}

impl Drop for Armed {
    fn drop(&mut self) {
        *ARMED.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
