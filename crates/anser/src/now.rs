//! Where waiting ends: the API blocks, and has an `_async` twin of every function that waits for a device.
//!
//! A browser lets nothing block: there the twin's future is ready when its device is. Everywhere else the future blocks in its
//! first poll and is ready then, so that the blocking function is the same code.

use crate::error::Error;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// The result of a future that does not have to wait for a browser.
///
/// # Errors
/// [`Error::MustWait`] if it has to.
pub(crate) fn now<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(Error::MustWait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ready_at_once_is_an_error() {
        assert_eq!(now(async { Ok(1) }).unwrap(), 1);
        assert!(matches!(now(async { Err::<u8, _>(Error::Cancelled) }), Err(Error::Cancelled)));
        assert!(matches!(now(std::future::pending::<Result<u8, Error>>()), Err(Error::MustWait)));
    }
}
