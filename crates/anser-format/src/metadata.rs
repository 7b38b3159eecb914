//! Typed key-value metadata of a model file.

use std::fmt;

/// A metadata value. GGUF has all of these. The values of a safetensors file are texts by its specification; numbers and
/// booleans, which some programs write, are read as such, and other JSON as its text.
#[derive(Clone, Debug, PartialEq)]
pub enum MetaValue {
    /// Unsigned 8-bit integer.
    U8(u8),
    /// Signed 8-bit integer.
    I8(i8),
    /// Unsigned 16-bit integer.
    U16(u16),
    /// Signed 16-bit integer.
    I16(i16),
    /// Unsigned 32-bit integer.
    U32(u32),
    /// Signed 32-bit integer.
    I32(i32),
    /// Unsigned 64-bit integer.
    U64(u64),
    /// Signed 64-bit integer.
    I64(i64),
    /// 32-bit float.
    F32(f32),
    /// 64-bit float.
    F64(f64),
    /// Boolean.
    Bool(bool),
    /// UTF-8 text.
    Str(String),
    /// Text that is not UTF-8, as it lies in the file.
    Bytes(Vec<u8>),
    /// Array of one of the above.
    Array(MetaArray),
}

impl MetaValue {
    /// The value of any integer type, if it is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            MetaValue::U8(v) => Some(v.into()),
            MetaValue::U16(v) => Some(v.into()),
            MetaValue::U32(v) => Some(v.into()),
            MetaValue::U64(v) => Some(v),
            MetaValue::I8(_) | MetaValue::I16(_) | MetaValue::I32(_) | MetaValue::I64(_) => {
                self.as_i64().and_then(|v| v.try_into().ok())
            }
            _ => None,
        }
    }

    /// The value of any integer type, if it fits in an `i64`.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            MetaValue::U8(v) => Some(v.into()),
            MetaValue::I8(v) => Some(v.into()),
            MetaValue::U16(v) => Some(v.into()),
            MetaValue::I16(v) => Some(v.into()),
            MetaValue::U32(v) => Some(v.into()),
            MetaValue::I32(v) => Some(v.into()),
            MetaValue::U64(v) => v.try_into().ok(),
            MetaValue::I64(v) => Some(v),
            _ => None,
        }
    }

    /// The value of either float type.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            MetaValue::F32(v) => Some(v.into()),
            MetaValue::F64(v) => Some(v),
            _ => None,
        }
    }

    /// The value of a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            MetaValue::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            MetaValue::Str(v) => Some(v),
            _ => None,
        }
    }

    /// The array, of whatever element type.
    pub fn as_array(&self) -> Option<&MetaArray> {
        match self {
            MetaValue::Array(v) => Some(v),
            _ => None,
        }
    }

    /// The array, if its elements are strings.
    pub fn as_str_array(&self) -> Option<&StrArray> {
        match self {
            MetaValue::Array(MetaArray::Str(v)) => Some(v),
            _ => None,
        }
    }

    /// The elements of an array of any integer type; `None` for other values and for a `u64` beyond `i64::MAX`.
    pub fn as_i64_array(&self) -> Option<Vec<i64>> {
        fn widen<T: Copy + TryInto<i64>>(values: &[T]) -> Option<Vec<i64>> {
            values.iter().map(|&v| v.try_into().ok()).collect()
        }
        match self.as_array()? {
            MetaArray::U8(v) => widen(v),
            MetaArray::I8(v) => widen(v),
            MetaArray::U16(v) => widen(v),
            MetaArray::I16(v) => widen(v),
            MetaArray::U32(v) => widen(v),
            MetaArray::I32(v) => widen(v),
            MetaArray::U64(v) => widen(v),
            MetaArray::I64(v) => widen(v),
            MetaArray::F32(_)
            | MetaArray::F64(_)
            | MetaArray::Bool(_)
            | MetaArray::Str(_)
            | MetaArray::Bytes(_)
            | MetaArray::Arrays(_) => None,
        }
    }
}

/// For messages: a number as such, a text in quotes, of an array its length.
impl fmt::Display for MetaValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetaValue::U8(v) => write!(f, "{v}"),
            MetaValue::I8(v) => write!(f, "{v}"),
            MetaValue::U16(v) => write!(f, "{v}"),
            MetaValue::I16(v) => write!(f, "{v}"),
            MetaValue::U32(v) => write!(f, "{v}"),
            MetaValue::I32(v) => write!(f, "{v}"),
            MetaValue::U64(v) => write!(f, "{v}"),
            MetaValue::I64(v) => write!(f, "{v}"),
            MetaValue::F32(v) => write!(f, "{v}"),
            MetaValue::F64(v) => write!(f, "{v}"),
            MetaValue::Bool(v) => write!(f, "{v}"),
            MetaValue::Str(v) => write!(f, "{v:?}"),
            MetaValue::Bytes(v) => write!(f, "{:?} (not UTF-8)", String::from_utf8_lossy(v)),
            MetaValue::Array(v) => write!(f, "an array of {}", v.len()),
        }
    }
}

/// An array of metadata values of one type.
#[derive(Clone, Debug, PartialEq)]
pub enum MetaArray {
    /// Unsigned 8-bit integers.
    U8(Box<[u8]>),
    /// Signed 8-bit integers.
    I8(Box<[i8]>),
    /// Unsigned 16-bit integers.
    U16(Box<[u16]>),
    /// Signed 16-bit integers.
    I16(Box<[i16]>),
    /// Unsigned 32-bit integers.
    U32(Box<[u32]>),
    /// Signed 32-bit integers.
    I32(Box<[i32]>),
    /// Unsigned 64-bit integers.
    U64(Box<[u64]>),
    /// Signed 64-bit integers.
    I64(Box<[i64]>),
    /// 32-bit floats.
    F32(Box<[f32]>),
    /// 64-bit floats.
    F64(Box<[f64]>),
    /// Booleans.
    Bool(Box<[bool]>),
    /// Strings, for example the tokens of a vocabulary.
    Str(StrArray),
    /// Texts of which some are not UTF-8.
    Bytes(BytesArray),
    /// This many arrays. Their elements are not kept: no key that models have is such an array.
    Arrays(usize),
}

impl MetaArray {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            MetaArray::U8(v) => v.len(),
            MetaArray::I8(v) => v.len(),
            MetaArray::U16(v) => v.len(),
            MetaArray::I16(v) => v.len(),
            MetaArray::U32(v) => v.len(),
            MetaArray::I32(v) => v.len(),
            MetaArray::U64(v) => v.len(),
            MetaArray::I64(v) => v.len(),
            MetaArray::F32(v) => v.len(),
            MetaArray::F64(v) => v.len(),
            MetaArray::Bool(v) => v.len(),
            MetaArray::Str(v) => v.len(),
            MetaArray::Bytes(v) => v.len(),
            MetaArray::Arrays(n) => *n,
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Many strings in two allocations: a vocabulary has 65,536 of them, and one allocation each would dominate loading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StrArray {
    /// All strings, one after the other.
    text: String,
    /// Byte position in `text` where each string ends; it starts where the one before ends.
    ends: Vec<usize>,
}

impl StrArray {
    /// An empty array with room for `n_strings` strings.
    pub fn with_capacity(n_strings: usize) -> StrArray {
        StrArray { text: String::new(), ends: Vec::with_capacity(n_strings) }
    }

    /// The same texts as strings, without copying them.
    ///
    /// # Errors
    /// The texts, if one of them is not UTF-8.
    pub(crate) fn from_bytes(texts: BytesArray) -> Result<StrArray, BytesArray> {
        let BytesArray { bytes, ends } = texts;
        match String::from_utf8(bytes) {
            // Two texts may be UTF-8 together and not each of them.
            Ok(text) if ends.iter().all(|&end| text.is_char_boundary(end)) => Ok(StrArray { text, ends }),
            Ok(text) => Err(BytesArray { bytes: text.into_bytes(), ends }),
            Err(error) => Err(BytesArray { bytes: error.into_bytes(), ends }),
        }
    }

    /// Appends a string.
    pub fn push(&mut self, string: &str) {
        self.text.push_str(string);
        self.ends.push(self.text.len());
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no strings.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string at `index`, if there are that many.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.text.get(start..end)
    }

    /// The strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let string = &self.text[start..end];
            start = end;
            string
        })
    }
}

impl<S: AsRef<str>> FromIterator<S> for StrArray {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> StrArray {
        let mut array = StrArray::default();
        for string in strings {
            array.push(string.as_ref());
        }
        array
    }
}

/// Many texts of any bytes in two allocations, as [`StrArray`] keeps strings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BytesArray {
    /// All texts, one after the other.
    bytes: Vec<u8>,
    /// Position in `bytes` where each text ends; it starts where the one before ends.
    ends: Vec<usize>,
}

impl BytesArray {
    /// An empty array with room for `n_texts` texts of `n_bytes` together.
    pub(crate) fn with_capacity(n_texts: usize, n_bytes: usize) -> BytesArray {
        BytesArray { bytes: Vec::with_capacity(n_bytes), ends: Vec::with_capacity(n_texts) }
    }

    /// Appends a text.
    pub(crate) fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no texts.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The texts in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let text = &self.bytes[start..end];
            start = end;
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_widen_and_refuse_what_does_not_fit() {
        assert_eq!(MetaValue::I32(7).as_u64(), Some(7));
        assert_eq!(MetaValue::I32(-7).as_u64(), None);
        assert_eq!(MetaValue::U64(u64::MAX).as_i64(), None);
        assert_eq!(MetaValue::F32(1.0).as_u64(), None);
        assert_eq!(MetaValue::U8(1).as_f64(), None);
        let array = MetaValue::Array(MetaArray::I32([1, -5].into()));
        assert_eq!(array.as_i64_array(), Some(vec![1, -5]));
        assert_eq!(MetaValue::Array(MetaArray::U64([u64::MAX].into())).as_i64_array(), None);
    }

    #[test]
    fn string_array_keeps_order_and_empty_strings() {
        let strings = ["<s>", "", "né", "x"];
        let array: StrArray = strings.into_iter().collect();
        assert_eq!(array.iter().collect::<Vec<_>>(), strings);
        assert_eq!((array.get(2), array.get(1), array.get(0), array.get(4)), (Some("né"), Some(""), Some("<s>"), None));
        assert_eq!(array.iter().len(), 4);
    }

    #[test]
    fn texts_are_strings_only_if_each_of_them_is_utf8() {
        let texts = |texts: &[&[u8]]| {
            let mut array = BytesArray::default();
            texts.iter().for_each(|text| array.push(text));
            array
        };
        let strings = StrArray::from_bytes(texts(&[b"", "né".as_bytes(), b"x"])).unwrap();
        assert_eq!(strings, ["", "né", "x"].into_iter().collect());
        // The two bytes of é, apart: UTF-8 together.
        let halves: [&[u8]; 3] = [b"n\xc3", b"\xa9", b"x"];
        let kept = StrArray::from_bytes(texts(&halves)).unwrap_err();
        assert_eq!(kept.iter().collect::<Vec<_>>(), halves);
        assert!(StrArray::from_bytes(texts(&[b"\xff"])).is_err());
    }

    #[test]
    fn values_in_messages_are_what_the_file_says() {
        let shown = |value: MetaValue| value.to_string();
        assert_eq!(shown(MetaValue::U32(24)), "24");
        assert_eq!(shown(MetaValue::Str("a\nb".into())), "\"a\\nb\"");
        assert_eq!(shown(MetaValue::Array(MetaArray::Arrays(3))), "an array of 3");
    }
}
