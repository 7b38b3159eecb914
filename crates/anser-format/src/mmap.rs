//! The one memory mapping of the project.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::time::SystemTime;

/// A read-only mapping of a whole file, which stays open beside it.
pub(crate) struct Mapping {
    map: memmap2::Mmap,
    file: File,
    stamp: Stamp,
}

/// What a change of a file shows in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    n_bytes: u64,
    /// `None` where the system does not say.
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(file: &File) -> io::Result<Stamp> {
        let metadata = file.metadata()?;
        Ok(Stamp { n_bytes: metadata.len(), modified: metadata.modified().ok() })
    }
}

impl Mapping {
    /// Maps all of `file`; pages are read from disk when first touched.
    #[allow(unsafe_code, reason = "a mapping is what lets multi-gigabyte weights be used in place")]
    pub(crate) fn new(file: File) -> io::Result<Mapping> {
        let stamp = Stamp::of(&file)?;
        // SAFETY: the mapping is read-only and private to this process's view, and `Mmap` keeps it alive as long as the
        // slices borrowed from it. What the compiler cannot see is another process changing the file meanwhile. Nobody
        // can rule that out (advisory locks do not bind), so it is a documented condition of `ModelFile::open`: if the
        // file is written to, weights change under our hands, and if it is truncated, touching a lost page raises
        // SIGBUS. The rest of the crate is written so that nothing worse follows: header fields are copied out and
        // validated once, and tensor bytes are only ever read as plain integers, for which every value is valid.
        let map = unsafe { memmap2::MmapOptions::new().map(&file)? };
        // Pages of 2 MiB, into which Linux reads a file only if it is asked before. An advice: without it nothing is lost.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Mapping { map, file, stamp })
    }

    /// How the file differs from when it was mapped; `None` if it does not.
    pub(crate) fn change(&self) -> io::Result<Option<String>> {
        let (then, now) = (self.stamp, Stamp::of(&self.file)?);
        Ok(match then == now {
            true => None,
            false if then.n_bytes != now.n_bytes => Some(format!("it had {} bytes, now {}", then.n_bytes, now.n_bytes)),
            false => Some("it was written to".into()),
        })
    }

    /// Reads the bytes from `at` on: by a call and not through the mapping, so that pages do not become part of the
    /// process's memory, and a file that was cut short gives an error and no signal.
    pub(crate) fn read(&self, at: usize, out: &mut [u8]) -> io::Result<()> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_exact_at(&self.file, out, at as u64);
        #[cfg(windows)]
        {
            let mut n_read = 0;
            while n_read < out.len() {
                let at = (at + n_read) as u64;
                match std::os::windows::fs::FileExt::seek_read(&self.file, &mut out[n_read..], at)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => n_read += n,
                }
            }
            Ok(())
        }
        #[cfg(not(any(unix, windows)))]
        {
            out.copy_from_slice(&self.map[at..at + out.len()]);
            Ok(())
        }
    }

    /// Asks the system to read all of the file into its cache. An advice: where it cannot be given, nothing is lost.
    pub(crate) fn read_ahead(&self) {
        #[cfg(unix)]
        let _ = self.map.advise(memmap2::Advice::WillNeed);
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}
