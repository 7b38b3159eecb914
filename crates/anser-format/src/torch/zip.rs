//! The directory of a zip archive whose entries are stored as they are: enough to find tensors in place.
//!
//! ```text
//! entry … entry   directory   [zip64 end record, its locator]   end record
//! entry = "PK\3\4" … length of the name, length of the extra field, name, extra field, data
//! ```
//! Sizes and places come from the directory; where the data starts, only the entry itself says.

use std::collections::HashMap;
use std::ops::Range;

use super::invalid;
use crate::error::FormatError;

const END_MAGIC: &[u8; 4] = b"PK\x05\x06";
const END_N_BYTES: usize = 22;
const ZIP64_END_MAGIC: &[u8; 4] = b"PK\x06\x06";
const ZIP64_END_N_BYTES: usize = 56;
const ZIP64_LOCATOR_MAGIC: &[u8; 4] = b"PK\x06\x07";
const ZIP64_LOCATOR_N_BYTES: usize = 20;
const DIRECTORY_MAGIC: &[u8; 4] = b"PK\x01\x02";
const DIRECTORY_ENTRY_N_BYTES: usize = 46;
const LOCAL_MAGIC: &[u8; 4] = b"PK\x03\x04";
const LOCAL_ENTRY_N_BYTES: usize = 30;
/// The identifier of the extra field that has sizes and places beyond 32 bits.
const ZIP64_FIELD: u16 = 1;
/// A field of the directory that stands in the zip64 extra field instead.
const IN_ZIP64: u32 = u32::MAX;

/// The most entries that are read: torch writes one for each of at most 65,536 tensors, and a few more.
const MAX_ENTRIES: u64 = (1 << 16) + 64;

/// A file in the archive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// 0 for stored.
    method: u16,
    is_encrypted: bool,
    stored_n_bytes: u64,
    n_bytes: u64,
    /// Where the entry starts, in bytes from the start of the archive.
    start: u64,
}

/// The directory of an archive.
pub(crate) struct Zip<'a> {
    file: &'a str,
    bytes: &'a [u8],
    /// Where the directory starts: all data lie before it.
    directory_start: usize,
    entries: HashMap<&'a [u8], Entry>,
}

impl<'a> Zip<'a> {
    /// Reads the directory; no entry's data is touched.
    pub(crate) fn read(file: &'a str, bytes: &'a [u8]) -> Result<Zip<'a>, FormatError> {
        let error = |problem: &str| invalid(file, "the zip archive's directory", problem.to_owned());
        let damaged = |what: &str| error(&format!("{what}; the file is cut short or damaged, get it again"));
        let end = find_end(bytes).ok_or_else(|| damaged("there is no end record"))?;
        let End { n_entries, directory, limit } =
            End::read(bytes, end).ok_or_else(|| damaged("no valid end record"))?;
        if n_entries > MAX_ENTRIES {
            return Err(error(&format!("{n_entries} entries, but at most {MAX_ENTRIES} are read")));
        }
        let directory = checked_range(directory, limit).ok_or_else(|| damaged("it lies outside of the file"))?;
        let mut rest = &bytes[directory.clone()];
        let mut entries = HashMap::new();
        for number in 0..n_entries {
            let (name, entry, n_bytes) =
                read_entry(rest).ok_or_else(|| damaged(&format!("entry {number} of {n_entries} is not valid")))?;
            if entries.insert(name, entry).is_some() {
                return Err(error(&format!("{:?} occurs twice", String::from_utf8_lossy(name))));
            }
            rest = &rest[n_bytes..];
        }
        Ok(Zip { file, bytes, directory_start: directory.start, entries })
    }

    /// The names of all entries.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a [u8]> {
        self.entries.keys().copied()
    }

    /// Where the data of the entry called `name` lie, in bytes from the start of the archive; `None` if there is none.
    ///
    /// # Errors
    /// If the entry is compressed, encrypted or damaged.
    pub(crate) fn data(&self, name: &str) -> Result<Option<Range<usize>>, FormatError> {
        let Some(entry) = self.entries.get(name.as_bytes()) else { return Ok(None) };
        let error = |problem: &str| invalid(self.file, &format!("the archive's entry {name:?}"), problem.to_owned());
        if entry.is_encrypted {
            return Err(error("it is encrypted"));
        }
        if entry.method != 0 {
            return Err(error(
                "it is compressed, but PyTorch stores tensors as they are; save the model with torch.save",
            ));
        }
        if entry.stored_n_bytes != entry.n_bytes {
            return Err(error("it is stored as it is, yet has two sizes; the file is damaged"));
        }
        let range = self.local_data(entry).ok_or_else(|| error("it lies outside of the file, which is damaged"))?;
        Ok(Some(range))
    }

    fn local_data(&self, entry: &Entry) -> Option<Range<usize>> {
        let header =
            checked_range(entry.start..entry.start.checked_add(LOCAL_ENTRY_N_BYTES as u64)?, self.directory_start)?;
        let fields = &self.bytes[header.clone()];
        if !fields.starts_with(LOCAL_MAGIC) {
            return None;
        }
        let start = header.end + usize::from(u16_at(fields, 26)?) + usize::from(u16_at(fields, 28)?);
        let start = u64::try_from(start).ok()?;
        checked_range(start..start.checked_add(entry.n_bytes)?, self.directory_start)
    }
}

/// Where the end record is: at the end of the file, before a comment of the length that it names.
fn find_end(bytes: &[u8]) -> Option<usize> {
    let last = bytes.len().checked_sub(END_N_BYTES)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    (first..=last).rev().find(|&at| {
        let n_comment = bytes.len() - at - END_N_BYTES;
        bytes[at..].starts_with(END_MAGIC) && u16_at(&bytes[at..], 20).map(usize::from) == Some(n_comment)
    })
}

/// What the end records say.
struct End {
    n_entries: u64,
    directory: Range<u64>,
    /// Where the directory must end at the latest.
    limit: usize,
}

impl End {
    fn read(bytes: &[u8], at: usize) -> Option<End> {
        let end = &bytes[at..];
        let (n, n_bytes, start) = (u16_at(end, 10)?, u32_at(end, 12)?, u32_at(end, 16)?);
        if n != u16::MAX && n_bytes != IN_ZIP64 && start != IN_ZIP64 {
            let start = u64::from(start);
            return Some(End { n_entries: n.into(), directory: start..start + u64::from(n_bytes), limit: at });
        }
        let locator_start = at.checked_sub(ZIP64_LOCATOR_N_BYTES)?;
        let locator = &bytes[locator_start..at];
        if !locator.starts_with(ZIP64_LOCATOR_MAGIC) {
            // 65,535 entries in an archive that has no zip64 records.
            let start = u64::from(start);
            return Some(End { n_entries: n.into(), directory: start..start + u64::from(n_bytes), limit: at });
        }
        let record = u64_at(locator, 8)?;
        let record = checked_range(record..record.checked_add(ZIP64_END_N_BYTES as u64)?, locator_start)?;
        let limit = record.start;
        let record = &bytes[record];
        if !record.starts_with(ZIP64_END_MAGIC) {
            return None;
        }
        let (n_entries, n_bytes, start) = (u64_at(record, 32)?, u64_at(record, 40)?, u64_at(record, 48)?);
        Some(End { n_entries, directory: start..start.checked_add(n_bytes)?, limit })
    }
}

/// The first entry of a directory, its name, and the bytes that it takes there.
fn read_entry(directory: &[u8]) -> Option<(&[u8], Entry, usize)> {
    let fields = directory.get(..DIRECTORY_ENTRY_N_BYTES)?;
    if !fields.starts_with(DIRECTORY_MAGIC) {
        return None;
    }
    let length = |at| u16_at(fields, at).map(usize::from);
    let (n_name, n_extra, n_comment) = (length(28)?, length(30)?, length(32)?);
    let name = directory.get(DIRECTORY_ENTRY_N_BYTES..)?.get(..n_name)?;
    let extra = directory.get(DIRECTORY_ENTRY_N_BYTES + n_name..)?.get(..n_extra)?;
    let n_bytes = DIRECTORY_ENTRY_N_BYTES + n_name + n_extra + n_comment;
    directory.get(..n_bytes)?;
    // The zip64 field has those numbers, in this order, that do not fit in the entry.
    let mut zip64 = zip64_field(extra);
    let mut number = |at| match u32_at(fields, at)? {
        IN_ZIP64 => {
            let (value, rest) = zip64?.split_first_chunk()?;
            zip64 = Some(rest);
            Some(u64::from_le_bytes(*value))
        }
        value => Some(value.into()),
    };
    let (uncompressed, stored, start) = (number(24)?, number(20)?, number(42)?);
    let is_encrypted = u16_at(fields, 8)? & 1 != 0;
    let entry =
        Entry { method: u16_at(fields, 10)?, is_encrypted, stored_n_bytes: stored, n_bytes: uncompressed, start };
    Some((name, entry, n_bytes))
}

/// The content of the zip64 field among an entry's extra fields.
fn zip64_field(mut extra: &[u8]) -> Option<&[u8]> {
    loop {
        let (id, n_bytes) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
        let content = extra.get(4..)?.get(..n_bytes)?;
        if id == ZIP64_FIELD {
            return Some(content);
        }
        extra = &extra[4 + n_bytes..];
    }
}

/// The range as indexes, if it ends before `limit`.
fn checked_range(range: Range<u64>, limit: usize) -> Option<Range<usize>> {
    let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
    (start <= end && end <= limit).then_some(start..end)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
