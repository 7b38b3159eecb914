//! What goes wrong on a device, and which call it is the error of.
//!
//! A native driver complains within a call. A browser answers later, in the order of the calls: a [`Watch`] waits for its answer.

use super::open::Device;
use crate::error::GpuError;
#[cfg(target_arch = "wasm32")]
use std::pin::Pin;
use std::sync::{Arc, Mutex};

/// What the driver complained about.
#[derive(Debug)]
enum Fault {
    OutOfMemory,
    Other(String),
}

impl From<wgpu::Error> for Fault {
    fn from(error: wgpu::Error) -> Fault {
        match error {
            wgpu::Error::OutOfMemory { .. } => Fault::OutOfMemory,
            error @ (wgpu::Error::Validation { .. } | wgpu::Error::Internal { .. }) => Fault::Other(error.to_string()),
        }
    }
}

/// The first fault that no error scope was there for.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults(Arc<Mutex<Option<Fault>>>);

impl Faults {
    /// Those of `device` from now on.
    pub(super) fn of(device: &wgpu::Device) -> Faults {
        let faults = Faults::default();
        let first = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            if let Ok(mut first) = first.0.lock() {
                first.get_or_insert(error.into());
            }
        }));
        faults
    }

    fn take(&self) -> Option<Fault> {
        self.0.lock().ok().and_then(|mut first| first.take())
    }
}

/// What a browser has yet to say about calls; nothing elsewhere, where their errors are known already.
#[derive(Default)]
#[must_use = "the calls may have failed"]
pub(crate) struct Watch {
    #[cfg(target_arch = "wasm32")]
    what: String,
    #[cfg(target_arch = "wasm32")]
    answers: Vec<Answer>,
}

/// What an error scope has caught.
#[cfg(target_arch = "wasm32")]
type Answer = Pin<Box<dyn Future<Output = Option<wgpu::Error>>>>;

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Device {
    /// Runs `f`, and turns what goes wrong on the device meanwhile into an error about `what`. In a browser it sees what went wrong
    /// before: where results depend on `f`, [`Device::watch`] it.
    ///
    /// # Errors
    /// A lost device, full memory, or a driver that refuses.
    pub(crate) fn guard<R>(&self, what: impl Fn() -> String, f: impl FnOnce() -> R) -> Result<R, GpuError> {
        self.check()?;
        let (result, fault) = self.catch(f);
        self.settle(what, fault)?;
        Ok(result)
    }

    /// [`Device::guard`], and what a browser has yet to say about `f`.
    ///
    /// # Errors
    /// As [`Device::guard`].
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn watch<R>(&self, what: impl Fn() -> String, f: impl FnOnce() -> R) -> Result<(R, Watch), GpuError> {
        Ok((self.guard(what, f)?, Watch::default()))
    }

    /// Runs `f`, and has the browser say later what went wrong in it.
    ///
    /// # Errors
    /// A lost device, or what went wrong before.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn watch<R>(&self, what: impl Fn() -> String, f: impl FnOnce() -> R) -> Result<(R, Watch), GpuError> {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        self.settle(&what, None)?;
        let [a, b, c] = [Internal, OutOfMemory, Validation].map(|filter| self.inner.push_error_scope(filter));
        let result = f();
        let answers = [c, b, a].map(|scope| Box::pin(scope.pop()) as Answer);
        Ok((result, Watch { what: what(), answers: answers.into() }))
    }

    /// An error if the device is lost, or for `fault`, or for one that no error scope was there for.
    fn settle(&self, what: impl Fn() -> String, fault: Option<Fault>) -> Result<(), GpuError> {
        self.check()?;
        let adapter = || self.report().name.clone();
        // A kernel that was refused says more than the step that cannot run it.
        match (fault, self.faults.take()) {
            (Some(Fault::OutOfMemory), _) | (None, Some(Fault::OutOfMemory)) => {
                Err(GpuError::OutOfMemory { adapter: adapter(), what: what() })
            }
            (_, Some(Fault::Other(reason))) | (Some(Fault::Other(reason)), _) => {
                Err(GpuError::Driver { adapter: adapter(), what: what(), reason })
            }
            (None, None) => Ok(()),
        }
    }

    /// The first error of `f` on this thread.
    #[cfg(not(target_arch = "wasm32"))]
    fn catch<R>(&self, f: impl FnOnce() -> R) -> (R, Option<Fault>) {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        let [a, b, c] = [Internal, OutOfMemory, Validation].map(|filter| self.inner.push_error_scope(filter));
        let result = f();
        let errors = [c, b, a].map(|scope| pollster::block_on(scope.pop()));
        (result, errors.into_iter().flatten().next().map(Fault::from))
    }

    /// Error scopes answer only later in a browser.
    #[cfg(target_arch = "wasm32")]
    fn catch<R>(&self, f: impl FnOnce() -> R) -> (R, Option<Fault>) {
        (f(), None)
    }
}

impl Watch {
    /// Waits until it is known whether the calls have failed.
    ///
    /// # Errors
    /// A lost device, full memory, or a driver that refuses.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) async fn finish(self, device: &Device) -> Result<(), GpuError> {
        device.check()
    }

    /// Waits until it is known whether the calls have failed.
    ///
    /// # Errors
    /// A lost device, full memory, or a driver that refuses.
    #[cfg(target_arch = "wasm32")]
    pub(crate) async fn finish(self, device: &Device) -> Result<(), GpuError> {
        let mut fault = None;
        for answer in self.answers {
            fault = fault.or(answer.await.map(Fault::from));
        }
        device.settle(|| if self.what.is_empty() { "earlier work".into() } else { self.what.clone() }, fault)
    }

    /// Both, about what this one is about.
    #[cfg_attr(not(target_arch = "wasm32"), allow(unused_variables, reason = "there is nothing to wait for"))]
    pub(crate) fn and(self, other: Watch) -> Watch {
        #[cfg(target_arch = "wasm32")]
        return Watch { what: self.what, answers: self.answers.into_iter().chain(other.answers).collect() };
        #[cfg(not(target_arch = "wasm32"))]
        self
    }
}
