//! The one memory mapping of the project, and whole files copied into memory.

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
        // slices borrowed from it. Another process may change the file meanwhile, which neither the compiler nor this
        // code can prevent (advisory locks do not bind). So it is a documented condition of `ModelFile::open`: if a
        // process writes to the file, weights change while they are in use, and if one truncates it, touching a lost
        // page raises SIGBUS. The rest of the crate is written so that nothing worse follows: header fields are copied
        // out and validated once, and tensor bytes are only ever read as plain integers, for which every value is
        // valid.
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
        #[cfg(any(unix, windows))]
        return read_at(&self.file, at, out);
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

/// A copy of a whole file in memory of the process.
pub(crate) struct Copied(memmap2::Mmap);

/// What is read by one call: large enough for a network's latency, small enough for every system's limit of a call.
const READ_N_BYTES: usize = 64 << 20;

impl Copied {
    /// Reads all of `file`.
    ///
    /// # Errors
    /// What the system says; if there is not enough memory; if the file changes meanwhile.
    pub(crate) fn new(mut file: File) -> io::Result<Copied> {
        let stamp = Stamp::of(&file)?;
        let n_bytes = usize::try_from(stamp.n_bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        // Memory of its own pages and not of the allocator's, so that it may have pages of 2 MiB.
        let mut copy = memmap2::MmapMut::map_anon(n_bytes)?;
        #[cfg(target_os = "linux")]
        let _ = copy.advise(memmap2::Advice::HugePage);
        for piece in copy.chunks_mut(READ_N_BYTES) {
            io::Read::read_exact(&mut file, piece).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it was cut short while it was read"),
                _ => error,
            })?;
        }
        if Stamp::of(&file)? != stamp {
            return Err(io::Error::other("it was written to while it was read; load it again"));
        }
        Ok(Copied(copy.make_read_only()?))
    }
}

impl Deref for Copied {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Reads the bytes of `file` from `at` on.
#[cfg(unix)]
fn read_at(file: &File, at: usize, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at as u64)
}

/// Reads the bytes of `file` from `at` on.
#[cfg(windows)]
fn read_at(file: &File, at: usize, out: &mut [u8]) -> io::Result<()> {
    let mut n_read = 0;
    while n_read < out.len() {
        let at = (at + n_read) as u64;
        match std::os::windows::fs::FileExt::seek_read(file, &mut out[n_read..], at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => n_read += n,
        }
    }
    Ok(())
}
