//! Bounds-checked reading of little-endian fields.

use std::fmt::Display;

use crate::bytes::Head;
use crate::error::FormatError;
use crate::file::MAX_ENTRIES;

/// A position in a file that only moves forward and never beyond the end.
///
/// Each read names the item it is for; the name is formatted only if the read fails. A clone reads ahead.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    file: &'a str,
    head: &'a Head<'a>,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &'a str, head: &'a Head<'a>) -> Cursor<'a> {
        Cursor { file, head, at: 0 }
    }

    /// Bytes from the start of the file.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Bytes from here to the end of the file.
    pub(super) fn n_left(&self) -> u64 {
        self.head.n_bytes() - self.at as u64
    }

    /// An error about an entry of this file's header.
    pub(super) fn invalid(&self, item: impl Display, problem: impl Display) -> FormatError {
        FormatError::Header { file: self.file.to_owned(), item: item.to_string(), problem: problem.to_string() }
    }

    /// Checks that `count` entries of a table are no more than [`MAX_ENTRIES`] and can still follow, at `min_n_bytes` or
    /// more each.
    pub(super) fn table_len(
        &self,
        count: u64,
        min_n_bytes: usize,
        item: impl Display + Copy,
    ) -> Result<usize, FormatError> {
        let count = self.count(count, min_n_bytes, item)?;
        if count > MAX_ENTRIES {
            let problem = format_args!("{count} entries are announced, but at most {MAX_ENTRIES} are read");
            return Err(self.invalid(item, problem));
        }
        Ok(count)
    }

    /// Checks that `count` entries of at least `min_n_bytes` each can still follow; to be asked before allocating.
    pub(super) fn count(&self, count: u64, min_n_bytes: usize, item: impl Display) -> Result<usize, FormatError> {
        let limit = self.n_left() / min_n_bytes as u64;
        usize::try_from(count).ok().filter(|_| count <= limit).ok_or_else(|| {
            self.invalid(
                item,
                format_args!("{count} entries are announced, but the rest of the file has room for at most {limit}"),
            )
        })
    }

    pub(super) fn take(&mut self, n_bytes: u64, item: impl Display) -> Result<&'a [u8], FormatError> {
        match self.head.get(self.at, n_bytes) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => Err(self.truncated(n_bytes, item)),
        }
    }

    pub(super) fn array<const N: usize>(&mut self, item: impl Display) -> Result<[u8; N], FormatError> {
        match self.head.get(self.at, N as u64).and_then(<[u8]>::first_chunk) {
            Some(chunk) => {
                self.at += N;
                Ok(*chunk)
            }
            None => Err(self.truncated(N as u64, item)),
        }
    }

    pub(super) fn u32(&mut self, item: impl Display) -> Result<u32, FormatError> {
        self.array(item).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, item: impl Display) -> Result<u64, FormatError> {
        self.array(item).map(u64::from_le_bytes)
    }

    /// The bytes of a length-prefixed string of at most `limit` bytes.
    pub(super) fn text(&mut self, limit: u64, item: impl Display) -> Result<&'a [u8], FormatError> {
        let n_bytes = self.u64(&item)?;
        if n_bytes > limit {
            return Err(
                self.invalid(item, format_args!("a length of {n_bytes} bytes, but at most {limit} are allowed"))
            );
        }
        self.take(n_bytes, &item)
    }

    /// A length-prefixed string of at most `limit` bytes, which must be UTF-8.
    pub(super) fn string(&mut self, limit: u64, item: impl Display) -> Result<&'a str, FormatError> {
        let bytes = self.text(limit, &item)?;
        std::str::from_utf8(bytes).map_err(|error| self.invalid(item, format_args!("not UTF-8: {error}")))
    }

    fn truncated(&self, n_bytes: u64, item: impl Display) -> FormatError {
        FormatError::Truncated {
            file: self.file.to_owned(),
            item: item.to_string(),
            at: self.at as u64,
            n_bytes,
            n_left: self.n_left(),
        }
    }
}
