//! Compiled kernels on disk, so that the driver need not compile them again in the next process.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What goes before the driver's data: a hash of it, so that a damaged file is told from a good one.
const HASH_N_BYTES: usize = 8;

/// A cache of one driver's kernels.
#[derive(Debug)]
pub(crate) struct PipelineCache {
    pub(crate) inner: wgpu::PipelineCache,
    path: PathBuf,
    /// Kernels compiled since the file was written.
    n_new: AtomicUsize,
}

impl PipelineCache {
    /// The cache for `adapter` in `folder`, with what earlier processes left there; a file that is damaged or of another
    /// driver counts as none. `None` if the driver has no such cache; `device` has the feature.
    pub(crate) fn open(folder: &Path, adapter: &wgpu::AdapterInfo, device: &wgpu::Device) -> Option<PipelineCache> {
        let key = wgpu::util::pipeline_cache_key(adapter)?;
        let path = folder.join(format!("pipelines-{}-{key}", env!("CARGO_PKG_VERSION")));
        let found = fs::read(&path).ok();
        let data = found.as_deref().and_then(verified);
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("pipelines"), data, fallback: true };
        // SAFETY: the data must be what `get_data` returned once, since drivers trust it. It is: only `save` below writes
        // this file, in a folder of the user's own; a hash tells a damaged or half-written one, and wgpu compares the
        // adapter, the driver and the length that its header names.
        #[allow(unsafe_code)]
        let inner = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(PipelineCache { inner, path, n_new: AtomicUsize::new(0) })
    }

    /// A kernel was compiled.
    pub(crate) fn count(&self) {
        self.n_new.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes the file if there is something new. Where it cannot be written, the next process compiles again.
    pub(crate) fn save(&self) {
        if self.n_new.swap(0, Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(data) = self.inner.get_data()
            && let Err(error) = write(&self.path, &data)
        {
            log::info!("compiled kernels are not kept: {}: {error}", self.path.display());
        }
    }
}

/// Writes `data` and its hash to the file at `path`.
fn write(path: &Path, data: &[u8]) -> std::io::Result<()> {
    super::files::write(path, &[&hash(data)[..], data].concat())
}

/// The data of a file, if it is what was written.
fn verified(file: &[u8]) -> Option<&[u8]> {
    let (found, data) = file.split_at_checked(HASH_N_BYTES)?;
    (found == hash(data)).then_some(data)
}

fn hash(data: &[u8]) -> [u8; HASH_N_BYTES] {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    hasher.finish().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_read() {
        let folder = std::env::temp_dir().join(format!("anser-pipelines-{}", std::process::id()));
        let path = folder.join("below").join("pipelines-1.2.3-key");
        write(&path, b"data of a driver").unwrap();
        let file = fs::read(&path).unwrap();
        assert_eq!(verified(&file), Some(&b"data of a driver"[..]));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing unfinished is left");
        for i in 0..file.len() {
            let mut damaged = file.clone();
            damaged[i] ^= 1;
            assert_eq!(verified(&damaged), None);
            assert_eq!(verified(&file[..i]), None);
        }
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, "no folder").unwrap();
        assert!(write(&path, b"x").is_err());
        fs::remove_file(&folder).unwrap();
    }
}
