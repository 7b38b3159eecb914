//! Where the bytes of a model file live.

use std::ops::Deref;

/// The bytes of a whole file, owned or borrowed forever; never copied after construction.
pub(crate) enum FileBytes {
    /// Mapped from a file on disk.
    #[cfg(not(target_arch = "wasm32"))]
    Mapped(crate::mmap::Mapping),
    /// Part of the program.
    Static(&'static [u8]),
    /// Read or made by the caller.
    Owned(Vec<u8>),
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            FileBytes::Mapped(mapping) => mapping,
            FileBytes::Static(bytes) => bytes,
            FileBytes::Owned(bytes) => bytes,
        }
    }
}
