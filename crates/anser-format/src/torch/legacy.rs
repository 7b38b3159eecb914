//! The container of PyTorch before version 1.6: five pickles, then the storages.
//!
//! ```text
//! magic   1001   {"little_endian": True, …}   the object   [key, …]   then for every key: i64 elements, their bytes
//! ```

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::object::{Object, Value};
use super::pickle;
use super::{element_type, invalid, is_key};
use crate::error::FormatError;

/// The first pickle: a number of ten bytes.
pub(crate) const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// The second one.
const VERSION: i64 = 1001;
/// The length field before a storage.
const LENGTH_N_BYTES: usize = 8;

/// The saved object, and where the bytes of its storages lie.
pub(crate) fn read<'a>(
    file: &str,
    bytes: &'a [u8],
) -> Result<(Object<'a>, HashMap<String, Range<usize>>), FormatError> {
    let mut at = MAGIC.len();
    let mut next = |item: &str| -> Result<Object<'a>, FormatError> {
        let (object, n_bytes) = pickle::read(file, item, &bytes[at..])?;
        at += n_bytes;
        Ok(object)
    };
    let version = next("the pickle of the protocol's version")?.root;
    if version != Value::Int(VERSION) {
        return Err(invalid(file, "the protocol's version", format!("it is not {VERSION}, the only one that is read")));
    }
    let system = next("the pickle of the system's properties")?;
    let is_little = match system.root {
        Value::Dict(dict) => system.dict(dict).iter().any(|entry| match *entry {
            (Value::Text(key), Value::Bool(value)) => value && system.text(key) == "little_endian",
            _ => false,
        }),
        _ => false,
    };
    if !is_little {
        let problem = "the tensors are not in little-endian order, which is needed";
        return Err(invalid(file, "the system's properties", problem.into()));
    }
    let object = next("the pickle of the object")?;
    let keys = next("the pickle of the storages' keys")?;
    let Value::List(list) = keys.root else {
        return Err(invalid(file, "the storages' keys", "they are no list".into()));
    };

    // The length of an element is known of storages that a tensor uses; all storages of a file are.
    let sizes: HashMap<&str, usize> =
        object.storages.iter().map(|storage| (object.text(storage.key), element_type(storage.element).1)).collect();
    let mut ranges = HashMap::new();
    let mut seen = BTreeSet::new();
    for key in keys.list(list) {
        let Value::Text(key) = *key else {
            return Err(invalid(file, "the storages' keys", "one of them is no text".into()));
        };
        let key = keys.text(key);
        let item = format!("storage {:?}", pickle::abbreviated(key));
        let error = |problem: &str| Err(invalid(file, &item, problem.into()));
        if !seen.insert(key) {
            return error("its key is listed twice");
        }
        let Some(element_n_bytes) = sizes.get(key).copied().filter(|_| is_key(key)) else {
            return error("no tensor uses it, so that its size is not known");
        };
        let Some(length) = bytes[at..].first_chunk::<LENGTH_N_BYTES>() else {
            return error("it is missing; the file is cut short, get it again");
        };
        at += LENGTH_N_BYTES;
        let n_bytes = usize::try_from(i64::from_le_bytes(*length)).ok().and_then(|n| n.checked_mul(element_n_bytes));
        let Some(n_bytes) = n_bytes.filter(|&n| n <= bytes.len() - at) else {
            return error("it ends after the end of the file, which is cut short or damaged; get it again");
        };
        ranges.insert(key.to_owned(), at..at + n_bytes);
        at += n_bytes;
    }
    Ok((object, ranges))
}
