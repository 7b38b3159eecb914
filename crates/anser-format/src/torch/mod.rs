//! The reader of PyTorch's files (`.pth`, `.pt`, `.bin`): what `torch.save` writes of a dictionary of tensors.
//!
//! Two containers hold the same pickle. Since PyTorch 1.6 it is a zip archive whose entries are stored as they are; before,
//! it was five pickles and the storages after them. Either way a tensor is a view (offset, shape, strides) of a storage,
//! and the storages' bytes lie in the file as tensors need them. [`pickle`] reads the description without running it.

mod legacy;
mod object;
mod pickle;
mod zip;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use self::object::{Element, Object, PickledTensor, Span, Value};
use self::zip::Zip;
use crate::error::{FormatError, TensorProblem};
use crate::file::{FileKind, MAX_ENTRIES, Parsed, TensorEntry, TorchContainer};
use crate::metadata::{MetaArray, MetaValue};
use crate::stored::StoredType;
use crate::strided::{Strided, is_contiguous};
use crate::tensor::DType;

pub(crate) use legacy::MAGIC as LEGACY_MAGIC;

/// The longest tensor name.
const MAX_NAME_N_BYTES: usize = 1024;
/// The longest name of a storage.
const MAX_KEY_N_BYTES: usize = 64;
/// The most dimensions of a tensor.
const MAX_N_DIMS: usize = 8;
/// The longest text outside of tensors that is kept.
const MAX_TEXT_N_BYTES: usize = 4096;

/// Keys under which training programs put the dictionary of a model's tensors.
const WRAPPERS: [&str; 3] = ["module", "state_dict", "model"];
/// What training programs put in front of tensor names.
const PREFIXES: [&str; 2] = ["_forward_module.", "module."];

/// Reads a file that starts as a zip archive does.
pub(crate) fn read_zip(file: &str, bytes: &[u8]) -> Result<Parsed, FormatError> {
    let archive = Zip::read(file, bytes)?;
    let root = root_folder(file, &archive)?;
    let text = |name: &str| archive.data(&format!("{root}/{name}"));
    if let Some(range) = text("byteorder")?
        && bytes[range.clone()].trim_ascii() != b"little"
    {
        let found = String::from_utf8_lossy(&bytes[range.start..range.end.min(range.start + 16)]).into_owned();
        return Err(invalid(
            file,
            "the entry byteorder",
            format!("{found:?}, but tensors are read in little-endian order"),
        ));
    }
    let Some(pickle) = text("data.pkl")? else { return Err(not_a_model(file)) };
    let (object, _) = pickle::read(file, &format!("{root}/data.pkl"), &bytes[pickle])?;
    let mut ranges = HashMap::new();
    for storage in &object.storages {
        let key = object.text(storage.key);
        if !ranges.contains_key(key)
            && is_key(key)
            && let Some(range) = text(&format!("data/{key}"))?
        {
            ranges.insert(key.to_owned(), range);
        }
    }
    check_disjoint(file, &ranges)?;
    parse(file, TorchContainer::Zip, bytes, &object, &ranges)
}

/// Reads a file in the container that PyTorch wrote before version 1.6.
pub(crate) fn read_legacy(file: &str, bytes: &[u8]) -> Result<Parsed, FormatError> {
    let (object, ranges) = legacy::read(file, bytes)?;
    parse(file, TorchContainer::Legacy, bytes, &object, &ranges)
}

/// An error about a part of the file.
fn invalid(file: &str, item: &str, problem: String) -> FormatError {
    FormatError::Header { file: file.to_owned(), item: item.to_owned(), problem }
}

fn not_a_model(file: &str) -> FormatError {
    FormatError::NotAModel {
        file: file.to_owned(),
        found: "a zip archive that torch.save did not write",
        advice: "check that it is the model's weight file; unpack it if the model is in it",
    }
}

/// The folder in the archive that has `data.pkl`.
fn root_folder(file: &str, archive: &Zip) -> Result<String, FormatError> {
    let folders_with =
        |name: &str| -> Vec<&[u8]> { archive.names().filter_map(|n| n.strip_suffix(name.as_bytes())).collect() };
    match &folders_with("/data.pkl")[..] {
        [folder] => match std::str::from_utf8(folder) {
            Ok(folder) => Ok(folder.to_owned()),
            Err(_) => Err(invalid(file, "the folder in the archive", "its name is not UTF-8".into())),
        },
        [] if !folders_with("/constants.pkl").is_empty() => Err(FormatError::NotAModel {
            file: file.to_owned(),
            found: "a TorchScript program",
            advice: "get the model's weights as torch.save writes them (.pth), or as safetensors or GGUF",
        }),
        [] => Err(not_a_model(file)),
        folders => Err(invalid(
            file,
            "the zip archive",
            format!("{} entries are called data.pkl, but one is needed", folders.len()),
        )),
    }
}

/// Whether this can be the name of a storage: no path.
fn is_key(key: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !key.is_empty() && key.len() <= MAX_KEY_N_BYTES && key.bytes().all(is_plain)
}

/// Refuses storages that share bytes: no program writes such files.
fn check_disjoint(file: &str, ranges: &HashMap<String, Range<usize>>) -> Result<(), FormatError> {
    let mut by_start: Vec<(&Range<usize>, &str)> =
        ranges.iter().map(|(key, range)| (range, &key[..])).filter(|(range, _)| !range.is_empty()).collect();
    by_start.sort_unstable_by_key(|(range, _)| range.start);
    match by_start.windows(2).find(|pair| pair[1].0.start < pair[0].0.end) {
        Some(pair) => Err(invalid(
            file,
            &format!("storage {}", pair[1].1),
            format!("its bytes overlap those of storage {}", pair[0].1),
        )),
        None => Ok(()),
    }
}

/// Lists the tensors of `object`; `ranges` are the bytes of the storages.
fn parse(
    file: &str,
    container: TorchContainer,
    bytes: &[u8],
    object: &Object,
    ranges: &HashMap<String, Range<usize>>,
) -> Result<Parsed, FormatError> {
    let Value::Dict(root) = object.root else {
        return Err(invalid(
            file,
            "the saved object",
            "it is no dictionary, but a dictionary of tensors is needed".into(),
        ));
    };
    let n_tensors = |dict: u32| object.dict(dict).iter().filter(|entry| as_tensor(entry).is_some()).count();
    let wrapped = object.dict(root).iter().filter_map(|entry| match *entry {
        (Value::Text(key), Value::Dict(dict)) if WRAPPERS.contains(&object.text(key)) => Some(dict),
        _ => None,
    });
    // The one with the most tensors; of equals the outer one.
    let dict = wrapped.fold(root, |most, dict| if n_tensors(dict) > n_tensors(most) { dict } else { most });

    let mut tensors = vec![];
    let mut n_gathered_bytes = 0;
    for (name, tensor) in object.dict(dict).iter().filter_map(as_tensor) {
        let mut name = object.text(name);
        while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
            name = rest;
        }
        if name.is_empty() || name.len() > MAX_NAME_N_BYTES {
            let item = format!("tensor number {}", tensors.len());
            let problem = format!("its name has {} bytes, but 1 to {MAX_NAME_N_BYTES} are allowed", name.len());
            return Err(invalid(file, &item, problem));
        }
        if tensors.len() == MAX_ENTRIES {
            return Err(invalid(file, "the saved object", format!("more than {MAX_ENTRIES} tensors")));
        }
        let entry = place(name, object, object.tensor(tensor), ranges).map_err(|problem| FormatError::Tensor {
            file: file.to_owned(),
            tensor: name.to_owned(),
            problem,
        })?;
        n_gathered_bytes += entry.strided.as_ref().map_or(0, |strided| strided.n_bytes());
        if n_gathered_bytes > bytes.len() {
            let problem = "tensors that are views with strides have more elements than the file; save copies of them";
            return Err(invalid(file, "the saved object", problem.into()));
        }
        tensors.push(entry);
    }
    Ok(Parsed { kind: FileKind::Torch(container), tensors, metadata: metadata(object, root) })
}

/// Name and tensor of a dictionary's entry, if it is one.
fn as_tensor(entry: &(Value, Value)) -> Option<(Span, u32)> {
    match *entry {
        (Value::Text(name), Value::Tensor(tensor)) => Some((name, tensor)),
        _ => None,
    }
}

/// The most numbers in all lists beside the tensors that are kept; further lists are left out.
const MAX_LIST_NUMBERS: usize = 4096;

/// Numbers, texts and lists of whole numbers beside the tensors, by name. Of equal names the last counts, as in Python.
fn metadata(object: &Object, root: u32) -> Vec<(String, MetaValue)> {
    let mut n_list_numbers = MAX_LIST_NUMBERS;
    let entries = object.dict(root).iter().filter_map(|entry| {
        let (Value::Text(key), value) = *entry else { return None };
        let value = match value {
            Value::Bool(value) => MetaValue::Bool(value),
            Value::Int(value) => MetaValue::I64(value),
            Value::Float(value) => MetaValue::F64(value),
            Value::Text(span) if object.text(span).len() <= MAX_TEXT_N_BYTES => {
                MetaValue::Str(object.text(span).to_owned())
            }
            // Of lists those of whole numbers, such as numbers of layers. A file may name one list many times.
            Value::List(list) if (1..=n_list_numbers).contains(&object.list(list).len()) => {
                n_list_numbers -= object.list(list).len();
                let whole = |value: &Value| match *value {
                    Value::Int(value) => Some(value),
                    _ => None,
                };
                MetaValue::Array(MetaArray::I64(object.list(list).iter().map(whole).collect::<Option<_>>()?))
            }
            _ => return None,
        };
        let key = object.text(key);
        (key.len() <= MAX_NAME_N_BYTES).then(|| (key.to_owned(), value))
    });
    let by_key: BTreeMap<String, MetaValue> = entries.take(MAX_ENTRIES).collect();
    by_key.into_iter().collect()
}

/// Checks that a tensor's elements lie in its storage, and where.
fn place(
    name: &str,
    object: &Object,
    tensor: &PickledTensor,
    ranges: &HashMap<String, Range<usize>>,
) -> Result<TensorEntry, TensorProblem> {
    let unreadable = |message: String| TensorProblem::Entry { message };
    let storage = object.storages[tensor.storage as usize];
    let key = object.text(storage.key);
    let Some(range) = ranges.get(key) else {
        return Err(unreadable(format!("its storage {:?} is not in the file", pickle::abbreviated(key))));
    };
    let (stored, element_n_bytes) = element_type(storage.element);
    let sizes = |what: &str, tuple| -> Result<Box<[usize]>, TensorProblem> {
        let size = |value: &Value| match *value {
            Value::Int(n) => usize::try_from(n).ok(),
            _ => None,
        };
        let values = object.tuple(tuple);
        if values.len() > MAX_N_DIMS {
            return Err(TensorProblem::NDims { found: values.len() as u64, limit: MAX_N_DIMS });
        }
        let sizes: Option<Box<[usize]>> = values.iter().map(size).collect();
        sizes.ok_or_else(|| unreadable(format!("its {what} must be whole numbers from 0")))
    };
    let (shape, strides) = (sizes("dimensions", tensor.shape)?, sizes("strides", tensor.strides)?);
    if shape.len() != strides.len() {
        return Err(unreadable(format!("it has {} dimensions and {} strides", shape.len(), strides.len())));
    }
    let too_large =
        || TensorProblem::TooLarge { shape: shape.iter().map(|&n| n as u64).collect(), stored: stored.clone() };
    let n_elements = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n)).ok_or_else(too_large)?;
    // The pickle and the container both say how many elements a storage has.
    let announced = usize::try_from(storage.len).unwrap_or(0);
    let available = announced.min(range.len() / element_n_bytes);
    let offset = usize::try_from(tensor.offset).map_err(|_| unreadable("its offset is negative".into()))?;
    let mut end = offset;
    if n_elements > 0 {
        let steps = shape
            .iter()
            .zip(&strides)
            .try_fold(offset, |end, (&n, &stride)| end.checked_add((n - 1).checked_mul(stride)?));
        end = steps.and_then(|last| last.checked_add(1)).ok_or_else(too_large)?;
    }
    if end > available || n_elements > available {
        return Err(unreadable(format!(
            "{stored} of shape {shape:?} with strides {strides:?} needs {} elements of storage {key}, which has {available}; \
             the file is cut short or damaged",
            end.max(n_elements)
        )));
    }
    let start = (range.start + offset * element_n_bytes) as u64;
    let n_bytes = Some(n_elements * element_n_bytes);
    let strided = (!is_contiguous(&shape, &strides) && n_elements > 0)
        .then(|| Arc::new(Strided::new(shape.clone(), strides, element_n_bytes)));
    Ok(TensorEntry { name: name.into(), stored, shape, part: 0, start, n_bytes, strided, replaced: None })
}

/// The type that a storage's elements have here, and the bytes of one.
fn element_type(element: Element) -> (StoredType, usize) {
    let other = |name: &str| StoredType::Other(name.into());
    match element {
        Element::Half => (DType::F16.into(), 2),
        Element::BFloat16 => (DType::BF16.into(), 2),
        Element::Float => (DType::F32.into(), 4),
        Element::Double => (other("F64"), 8),
        Element::Long => (other("I64"), 8),
        Element::Int => (other("I32"), 4),
        Element::Short => (other("I16"), 2),
        Element::Char => (other("I8"), 1),
        Element::Byte => (other("U8"), 1),
        Element::Bool => (other("BOOL"), 1),
    }
}
