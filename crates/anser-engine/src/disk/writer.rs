//! Writes states to files in a thread of its own, so that no step waits for a disk.

use crate::event::Saved;
use anser::Model;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;

/// The most states that wait to be written. They are in main memory meanwhile.
const MAX_UNWRITTEN: usize = 8;

/// A state on its way to a file.
struct Unwritten {
    name: String,
    path: PathBuf,
    model: Model,
    saved: Arc<Saved>,
}

/// What became of a state.
pub(super) struct Written {
    pub(super) name: String,
    /// The bytes of its file; `None` if it could not be written.
    pub(super) n_bytes: Option<u64>,
}

/// The thread that writes, and what it has not written yet.
#[derive(Debug)]
pub(super) struct Writer {
    /// `None` once it has finished.
    to: Option<SyncSender<Unwritten>>,
    written: Receiver<Written>,
    unwritten: HashMap<String, Arc<Saved>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. Without one, if the system starts none, nothing is ever written.
    pub(super) fn start() -> Writer {
        let (to, from) = sync_channel::<Unwritten>(MAX_UNWRITTEN);
        let (tell, written) = channel();
        let write_all = move || {
            for Unwritten { name, path, model, saved } in from {
                let saved = model.save_state(&path, &saved.state, &saved.logits);
                // A full disk is no fault of a request.
                let saved = saved.inspect_err(|error| log::warn!("a state is not cached on disk: {error}"));
                let n_bytes = saved.ok().and_then(|()| Some(fs::metadata(&path).ok()?.len()));
                if tell.send(Written { name, n_bytes }).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("anser-disk".into()).spawn(write_all).ok();
        Writer { to: Some(to), written, unwritten: HashMap::new(), thread }
    }

    /// Whether there is room for another state. If the disk is slower than states come, some are not written.
    pub(super) fn has_room(&self) -> bool {
        self.unwritten.len() < MAX_UNWRITTEN
    }

    /// Has a state of `model` written to `path`, unless there is no room. `name` is its name in [`Written`].
    pub(super) fn write(&mut self, name: String, path: PathBuf, model: &Model, saved: Arc<Saved>) {
        let unwritten = Unwritten { name: name.clone(), path, model: model.clone(), saved: saved.clone() };
        match self.to.as_ref().map(|to| to.try_send(unwritten)) {
            Some(Ok(())) => drop(self.unwritten.insert(name, saved)),
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => {}
        }
    }

    /// A state that is not written yet.
    pub(super) fn unwritten(&self, name: &str) -> Option<&Arc<Saved>> {
        self.unwritten.get(name)
    }

    /// Whether some states are not written yet.
    pub(super) fn has_some(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Waits until all is written. Nothing can be written afterwards.
    pub(super) fn finish(&mut self) {
        drop(self.to.take());
        if let Some(thread) = self.thread.take() {
            // The thread ends when it has written what was sent; a panic in it concerns no request.
            let _ = thread.join();
        }
    }

    /// The states that were written since the last call.
    pub(super) fn take_written(&mut self) -> Vec<Written> {
        let written: Vec<Written> = self.written.try_iter().collect();
        written.iter().for_each(|written| drop(self.unwritten.remove(&written.name)));
        written
    }
}
