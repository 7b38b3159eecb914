//! Where the bytes of a model file live.

use crate::error::FormatError;
use std::cell::Cell;
use std::future::{Future, ready};
use std::io;
use std::ops::Range;
use std::pin::Pin;

/// A file that is read piece by piece, such as one that a browser keeps.
pub trait ReadAt: Send + Sync {
    /// The length of the file in bytes, which does not change.
    fn n_bytes(&self) -> u64;

    /// Fills `into` with the bytes from `offset` on.
    ///
    /// # Errors
    /// If they cannot be read; [`io::ErrorKind::UnexpectedEof`] if the file has become shorter.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Gets `n_bytes` bytes from `offset` on ready, which [`ReadAt::read_at`] is to read next: for files that are read in a better way where
    /// that may wait. What fails here fails again there.
    #[expect(unused_variables, reason = "most files are read at once, and need nothing before")]
    fn prepare(&self, offset: u64, n_bytes: u64) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(ready(()))
    }
}

/// The bytes of a whole file.
pub(crate) enum FileBytes {
    /// Mapped from a file on disk.
    #[cfg(not(target_arch = "wasm32"))]
    Mapped(crate::mmap::Mapping),
    /// Copied from a file on disk into memory of the process.
    #[cfg(not(target_arch = "wasm32"))]
    Read(crate::mmap::Copied),
    /// Part of the program.
    Static(&'static [u8]),
    /// Given by the caller.
    Owned(Vec<u8>),
    /// Read piece by piece by the caller's code.
    Fetched(Box<dyn ReadAt>),
}

impl FileBytes {
    /// The number of bytes.
    pub(crate) fn n_bytes(&self) -> u64 {
        match self {
            FileBytes::Fetched(reader) => reader.n_bytes(),
            _ => self.in_memory().map_or(0, |bytes| bytes.len() as u64),
        }
    }

    /// All bytes, where they are mapped or in memory.
    pub(crate) fn in_memory(&self) -> Option<&[u8]> {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            FileBytes::Mapped(mapping) => Some(mapping),
            #[cfg(not(target_arch = "wasm32"))]
            FileBytes::Read(copied) => Some(copied),
            FileBytes::Static(bytes) => Some(bytes),
            FileBytes::Owned(bytes) => Some(bytes),
            FileBytes::Fetched(_) => None,
        }
    }

    /// The bytes in `range`: those of a file on disk, or that the caller's code reads, are read into `scratch`, others are where they
    /// are.
    ///
    /// # Errors
    /// If they cannot be read, or the file has become shorter.
    pub(crate) fn fetch<'a>(&'a self, range: Range<u64>, scratch: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        let in_memory = |bytes: &'a [u8]| &bytes[range.start as usize..range.end as usize];
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let read = |scratch: &'a mut Vec<u8>, read: &dyn Fn(&mut [u8]) -> io::Result<()>| {
            let n = usize::try_from(range.end - range.start).map_err(too_large)?;
            scratch.resize(n.max(scratch.len()), 0);
            let out = &mut scratch[..n];
            read(out)?;
            Ok(&*out)
        };
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            FileBytes::Mapped(mapping) => read(scratch, &|out| mapping.read(range.start as usize, out)),
            #[cfg(not(target_arch = "wasm32"))]
            FileBytes::Read(copied) => Ok(in_memory(copied)),
            FileBytes::Static(bytes) => Ok(in_memory(bytes)),
            FileBytes::Owned(bytes) => Ok(in_memory(bytes)),
            FileBytes::Fetched(reader) => read(scratch, &|out| reader.read_at(range.start, out)),
        }
    }

    /// Gets the bytes in `range` ready, which [`FileBytes::fetch`] is to read next.
    pub(crate) async fn prepare(&self, range: Range<u64>) {
        if let FileBytes::Fetched(reader) = self {
            reader.prepare(range.start, range.end - range.start).await;
        }
    }

    /// How the file differs from when it was opened; `None` if it does not.
    pub(crate) fn change(&self) -> io::Result<Option<String>> {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            FileBytes::Mapped(mapping) => mapping.change(),
            #[cfg(not(target_arch = "wasm32"))]
            FileBytes::Read(_) => Ok(None),
            FileBytes::Static(_) | FileBytes::Owned(_) | FileBytes::Fetched(_) => Ok(None),
        }
    }

    /// Asks the system to read all of the file into its cache.
    pub(crate) fn read_ahead(&self) {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            FileBytes::Mapped(mapping) => mapping.read_ahead(),
            #[cfg(not(target_arch = "wasm32"))]
            FileBytes::Read(_) => {}
            FileBytes::Static(_) | FileBytes::Owned(_) | FileBytes::Fetched(_) => {}
        }
    }

    /// What `parse` finds at the beginning of the file called `name`, of which it gets as many bytes as it needs.
    ///
    /// # Errors
    /// Those of `parse`, or of reading the bytes that it needs.
    pub(crate) fn parse<R>(
        &self,
        name: &str,
        parse: impl Fn(&Head) -> Result<R, FormatError>,
    ) -> Result<R, FormatError> {
        /// Most headers are no longer.
        const FIRST_N_BYTES: u64 = 1 << 20;
        /// Those of the largest vocabularies have some ten million bytes.
        const MAX_N_BYTES: u64 = 256 << 20;

        let n_bytes = self.n_bytes();
        if let Some(bytes) = self.in_memory() {
            return parse(&Head::new(bytes, n_bytes));
        }
        let mut n_read = FIRST_N_BYTES.min(n_bytes);
        let mut scratch = vec![];
        loop {
            let io = |source| FormatError::Io { file: name.to_owned(), source };
            let bytes = self.fetch(0..n_read, &mut scratch).map_err(io)?;
            let head = Head::new(bytes, n_bytes);
            let parsed = parse(&head);
            if !head.is_too_short.get() {
                return parsed;
            }
            if n_read >= MAX_N_BYTES {
                return Err(FormatError::Header {
                    file: name.to_owned(),
                    item: "the header".to_owned(),
                    problem: format!(
                        "it has more than {MAX_N_BYTES} bytes, which are not read of a file that is not in memory"
                    ),
                });
            }
            n_read = (2 * n_read).min(n_bytes).min(MAX_N_BYTES);
        }
    }
}

/// The beginning of a file, or all of it.
pub(crate) struct Head<'a> {
    bytes: &'a [u8],
    /// Bytes of the whole file.
    n_bytes: u64,
    /// Whether more bytes were asked for than these, of those that the file has. What was made of the answer is of no use then.
    is_too_short: Cell<bool>,
}

impl<'a> Head<'a> {
    pub(crate) fn new(bytes: &'a [u8], n_bytes: u64) -> Head<'a> {
        Head { bytes, n_bytes, is_too_short: Cell::new(false) }
    }

    /// Bytes of the whole file.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// The `n_bytes` bytes from `at` on; `None` if the file ends before.
    pub(crate) fn get(&self, at: usize, n_bytes: u64) -> Option<&'a [u8]> {
        let end = (at as u64).checked_add(n_bytes).filter(|&end| end <= self.n_bytes)?;
        let found = usize::try_from(end).ok().and_then(|end| self.bytes.get(at..end));
        self.is_too_short.set(self.is_too_short.get() || found.is_none());
        found
    }

    /// The bytes that are there.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// All bytes of the file, where they are there.
    pub(crate) fn whole(&self) -> Option<&'a [u8]> {
        Some(self.bytes).filter(|bytes| bytes.len() as u64 == self.n_bytes)
    }
}
