//! Where the bytes of a model file live.

use std::io;
use std::ops::{Deref, Range};

/// The bytes of a whole file, owned or borrowed forever; never copied after construction.
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
}

impl FileBytes {
    /// The bytes in `range`: those of a mapped file are read into `scratch`, others are where they are.
    ///
    /// # Errors
    /// If the system cannot read them, or the file has become shorter.
    #[cfg_attr(target_arch = "wasm32", allow(unused_variables, reason = "there are no mapped files"))]
    pub(crate) fn fetch<'a>(&'a self, range: Range<usize>, scratch: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            FileBytes::Mapped(mapping) => {
                scratch.resize(range.len().max(scratch.len()), 0);
                let out = &mut scratch[..range.len()];
                mapping.read(range.start, out)?;
                Ok(out)
            }
            #[cfg(not(target_arch = "wasm32"))]
            FileBytes::Read(_) => Ok(&self[range]),
            FileBytes::Static(_) | FileBytes::Owned(_) => Ok(&self[range]),
        }
    }

    /// How the file differs from when it was opened; `None` if it does not.
    pub(crate) fn change(&self) -> io::Result<Option<String>> {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            FileBytes::Mapped(mapping) => mapping.change(),
            #[cfg(not(target_arch = "wasm32"))]
            FileBytes::Read(_) => Ok(None),
            FileBytes::Static(_) | FileBytes::Owned(_) => Ok(None),
        }
    }

    /// Asks the system to read all of the file into its cache.
    pub(crate) fn read_ahead(&self) {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            FileBytes::Mapped(mapping) => mapping.read_ahead(),
            #[cfg(not(target_arch = "wasm32"))]
            FileBytes::Read(_) => {}
            FileBytes::Static(_) | FileBytes::Owned(_) => {}
        }
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            FileBytes::Mapped(mapping) => mapping,
            #[cfg(not(target_arch = "wasm32"))]
            FileBytes::Read(copied) => copied,
            FileBytes::Static(bytes) => bytes,
            FileBytes::Owned(bytes) => bytes,
        }
    }
}
