//! Models by name: `hf:OWNER/REPO[:FILE][@REVISION]` becomes a file on this machine.
//!
//! The files lie where Hugging Face's own tools keep theirs ([`Settings::from_env`]), in the same layout, so that a model
//! that one of them has downloaded is not downloaded again. What a server says is checked before it becomes a path: no answer
//! leads out of the cache. Files in large file storage are compared with their SHA-256.
//!
//! ```no_run
//! use anser_hub::{Hub, ModelName, Settings};
//! use std::ops::ControlFlow;
//!
//! let hub = Hub::new(Settings::from_env()?);
//! let path = hub.fetch(&ModelName::parse("hf:BlinkDL/rwkv7-g1:rwkv7-g1a-0.1b-20250728-ctx4096.pth")?, &mut |_| ControlFlow::Continue(()))?;
//! # Ok::<(), anser_hub::HubError>(())
//! ```

mod cache;
mod choice;
mod download;
mod error;
mod http;
mod listing;
mod name;
mod settings;

pub use error::HubError;
pub use name::{MAIN, ModelName, PREFIX};
pub use settings::Settings;

use cache::RepoCache;
use choice::choose;
use download::Wanted;
use http::Http;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// What happens while a model is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A sentence for the user: which of several models was taken and why, or that the hub could not be asked.
    Remark(&'a str),
    /// Another process downloads this file, and this one waits for it.
    Waiting {
        /// The path of the file in its repository.
        file: &'a str,
    },
    /// A piece of a file has arrived.
    Downloading {
        /// The path of the file in its repository.
        file: &'a str,
        /// The bytes of the file that are in the cache.
        n_bytes: u64,
        /// The bytes of the whole file, if the hub tells them.
        total_n_bytes: Option<u64>,
    },
}

/// What is called with every [`Event`]. If it returns `Break` for a piece of a file, the download ends with
/// [`HubError::Cancelled`], and a later one goes on from there.
pub type OnEvent<'a> = dyn FnMut(Event<'_>) -> ControlFlow<()> + 'a;

/// A hub and its cache.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
}

impl Hub {
    /// A hub with these settings. Nothing is asked or read yet.
    pub fn new(settings: Settings) -> Hub {
        Hub { settings }
    }

    /// The file to open of the model that is called `name`. All its files are in the cache then.
    ///
    /// If the hub cannot be reached, what the cache has stands in for it, and [`Event::Remark`] says so. With
    /// [`Settings::offline`] the hub is not asked.
    ///
    /// # Errors
    /// [`HubError`]; a download that breaks off is continued by the next call.
    pub fn fetch(&self, name: &ModelName, on_event: &mut OnEvent<'_>) -> Result<PathBuf, HubError> {
        let cache = RepoCache::new(&self.settings.cache, name.repo());
        if self.settings.offline {
            return self.cached(&cache, name, on_event);
        }
        let http = Http::new(&self.settings);
        let listing = match http.listing(name) {
            Ok(listing) => listing,
            Err(error) if error.is_transient() => {
                let remark = format!("{error}; going on with what the cache has");
                let path = self.cached(&cache, name, &mut |_| ControlFlow::Continue(())).map_err(|_| error)?;
                let _ = on_event(Event::Remark(&remark));
                return Ok(path);
            }
            Err(error) => return Err(error),
        };
        let choice = choose(name, &listing)?;
        if let Some(reason) = &choice.reason {
            let _ = on_event(Event::Remark(reason));
        }
        cache.note(name.revision(), &listing.commit)?;
        for path in &choice.files {
            download::get(&http, &cache, &Wanted { name, commit: &listing.commit, path }, on_event)?;
        }
        Ok(cache.snapshot(&listing.commit, &choice.open))
    }

    /// The file to open of the model, if the cache has it.
    fn cached(&self, cache: &RepoCache, name: &ModelName, on_event: &mut OnEvent<'_>) -> Result<PathBuf, HubError> {
        let missing =
            || HubError::NotCached { name: name.to_string(), cache: self.settings.cache.display().to_string() };
        let listing = cache.listing(name.revision()).ok_or_else(missing)?;
        let choice = choose(name, &listing).map_err(|error| match error {
            HubError::NoModel { .. } | HubError::NoFile { .. } => missing(),
            other => other,
        })?;
        if let Some(reason) = &choice.reason {
            let _ = on_event(Event::Remark(reason));
        }
        Ok(cache.snapshot(&listing.commit, &choice.open))
    }
}
