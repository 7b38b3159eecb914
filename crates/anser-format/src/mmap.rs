//! The one memory mapping of the project.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// A read-only mapping of a whole file.
pub(crate) struct Mapping(memmap2::Mmap);

impl Mapping {
    /// Maps all of `file`; pages are read from disk when first touched.
    #[allow(unsafe_code, reason = "a mapping is what lets multi-gigabyte weights be used in place")]
    pub(crate) fn new(file: &File) -> io::Result<Mapping> {
        // SAFETY: the mapping is read-only and private to this process's view, and `Mmap` keeps it alive as long as the
        // slices borrowed from it. What the compiler cannot see is another process changing the file meanwhile. Nobody
        // can rule that out (advisory locks do not bind), so it is a documented condition of `ModelFile::open`: if the
        // file is written to, weights change under our hands, and if it is truncated, touching a lost page raises
        // SIGBUS. The rest of the crate is written so that nothing worse follows: header fields are copied out and
        // validated once, and tensor bytes are only ever read as plain integers, for which every value is valid.
        let mapping = unsafe { memmap2::MmapOptions::new().map(file)? };
        Ok(Mapping(mapping))
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
