//! States of prefixes in a folder, which later processes find again and several may share.
//!
//! Each is a state file, named by a hash over the model file's digest, the tenant and the tokens: the name is found from a prompt, and
//! tells nothing of it. A file appears whole or not at all. One that cannot be read is deleted and counts as missing. States are read
//! in the engine's thread and written in another one; until a state is written it is found in memory.

mod writer;

use crate::event::Saved;
use anser::{CacheStats, Error, Model, Session, StateOrigin};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use writer::{Writer, Written};

/// How long the list of files is believed.
const MAX_LIST_AGE: Duration = Duration::from_secs(1);

/// The end of the names of these files.
const SUFFIX: &str = ".anser-prefix.safetensors";

#[derive(Debug)]
pub(crate) struct DiskCache {
    folder: PathBuf,
    max_n_bytes: u64,
    digest: String,
    /// The files by name, with their bytes and the time of their last use.
    files: HashMap<String, (u64, SystemTime)>,
    listed_at: Option<Instant>,
    stats: CacheStats,
    writer: Writer,
}

impl DiskCache {
    /// The cache in `folder`, which is made if it does not exist.
    pub(crate) fn open(folder: &Path, max_n_bytes: u64, model: &Model) -> Result<DiskCache, Error> {
        let io = |source| Error::Io { file: folder.display().to_string(), source };
        fs::create_dir_all(folder).map_err(io)?;
        let digest = model.digest()?.to_owned();
        Ok(DiskCache {
            folder: folder.into(),
            max_n_bytes,
            digest,
            files: HashMap::new(),
            listed_at: None,
            stats: CacheStats::default(),
            writer: Writer::start(),
        })
    }

    /// The length of the longest prefix of `tokens` whose state `tenant` has here, and the file.
    pub(crate) fn find(&mut self, tenant: u64, tokens: &[u32]) -> Option<(usize, String)> {
        self.list();
        if self.files.is_empty() && !self.writer.has_some() {
            return None;
        }
        let mut hash = self.hash(tenant);
        let mut found = None;
        for (i, token) in tokens.iter().enumerate() {
            hash.update(token.to_le_bytes());
            let name = name_of(hash.clone());
            if self.has(&name) {
                found = Some((i + 1, name));
            }
        }
        found
    }

    /// The state in the file `name`; `None` if it cannot be used, and then it is deleted.
    pub(crate) fn load(&mut self, model: &Model, name: &str) -> Option<Arc<Saved>> {
        if let Some(saved) = self.writer.unwritten(name) {
            self.stats.n_hits += 1;
            return Some(saved.clone());
        }
        let path = self.folder.join(name);
        let loaded = model.load_state(&path);
        match loaded {
            Ok(loaded) if loaded.origin == StateOrigin::SameFile => {
                self.stats.n_hits += 1;
                let now = SystemTime::now();
                // A file that cannot be marked as used is merely deleted earlier.
                let _ = fs::File::options().append(true).open(&path).and_then(|file| file.set_modified(now));
                if let Some((_, used)) = self.files.get_mut(name) {
                    *used = now;
                }
                Some(Arc::new(Saved { state: loaded.state, logits: loaded.logits }))
            }
            Ok(_) | Err(_) => {
                if let Err(error) = loaded {
                    log::warn!("a cached state is deleted: {error}");
                }
                self.stats.n_misses += 1;
                self.delete(name);
                None
            }
        }
    }

    /// Has the state of `session`, which has read `tokens` from a fresh state, written, unless it is there already or the disk is
    /// slower than states come.
    pub(crate) fn save(&mut self, tenant: u64, tokens: &[u32], session: &mut Session) -> Result<(), Error> {
        let mut hash = self.hash(tenant);
        tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
        let name = name_of(hash);
        self.list();
        let n_bytes = 4 * (session.model().state_layout().len() + session.logits().len()) as u64;
        if self.has(&name) || n_bytes > self.max_n_bytes || !self.writer.has_room() {
            return Ok(());
        }
        let state = session.state()?;
        let saved = Arc::new(Saved { state, logits: session.logits().to_vec() });
        self.writer.write(name.clone(), self.folder.join(&name), session.model(), saved);
        Ok(())
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let n_bytes: u64 = self.files.values().map(|(n_bytes, _)| n_bytes).sum();
        CacheStats { n_entries: self.files.len(), n_bytes: n_bytes as usize, ..self.stats }
    }

    /// Counts a look-up that another cache answered better or none did.
    pub(crate) fn count_miss(&mut self) {
        self.stats.n_misses += 1;
    }

    /// Whether a state of this name is in the folder, or will be.
    fn has(&self, name: &str) -> bool {
        self.files.contains_key(name) || self.writer.unwritten(name).is_some()
    }

    fn hash(&self, tenant: u64) -> Sha256 {
        let mut hash = Sha256::new();
        hash.update(self.digest.as_bytes());
        hash.update(tenant.to_le_bytes());
        hash
    }

    /// Lists the folder again if the list is old: other processes write and delete there, too.
    fn list(&mut self) {
        self.note_written();
        if self.listed_at.is_some_and(|at| at.elapsed() < MAX_LIST_AGE) {
            return;
        }
        self.listed_at = Some(Instant::now());
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) => {
                log::warn!("{}: {error}", self.folder.display());
                self.files.clear();
                return;
            }
        };
        let file = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok().filter(|name| name.ends_with(SUFFIX))?;
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((name, (metadata.len(), metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH))))
        };
        self.files = entries.filter_map(|entry| file(entry.ok()?)).collect();
    }

    /// Notes the files that were written meanwhile.
    fn note_written(&mut self) {
        for Written { name, n_bytes } in self.writer.take_written() {
            if let Some(n_bytes) = n_bytes {
                self.files.insert(name, (n_bytes, SystemTime::now()));
            }
        }
        self.shrink();
    }

    /// Deletes the files that were used least recently until the others fit.
    fn shrink(&mut self) {
        let mut n_bytes: u64 = self.files.values().map(|(n_bytes, _)| n_bytes).sum();
        while n_bytes > self.max_n_bytes {
            let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used);
            let Some((name, of_file)) = oldest.map(|(name, (n_bytes, _))| (name.clone(), *n_bytes)) else { return };
            n_bytes -= of_file;
            self.delete(&name);
        }
    }

    fn delete(&mut self, name: &str) {
        self.files.remove(name);
        // Another process may have deleted it.
        let _ = fs::remove_file(self.folder.join(name));
    }
}

fn name_of(hash: Sha256) -> String {
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    hex + SUFFIX
}

impl Drop for DiskCache {
    /// Waits until all states are written, and leaves the folder within its bounds.
    fn drop(&mut self) {
        self.writer.finish();
        self.note_written();
    }
}
