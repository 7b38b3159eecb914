//! What a pickle describes, as plain values.
//!
//! All values lie in flat lists and name each other by number, so that reading and dropping them needs no recursion, and a
//! tuple that is named a million times is there once.

/// A value. Texts are ranges of the pickle, containers are numbers of lists.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits, which nothing may use.
    BigInt,
    Float(f64),
    Text(Span),
    /// Items among [`Object::items`].
    Tuple(Span),
    /// Number of an [`Object::lists`] entry.
    List(u32),
    /// Number of an [`Object::dicts`] entry.
    Dict(u32),
    Global(Global),
    /// Number of an [`Object::storages`] entry.
    Storage(u32),
    /// Number of an [`Object::tensors`] entry.
    Tensor(u32),
}

/// Start and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(super) start: u32,
    pub(super) len: u32,
}

/// The names that a pickle may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    Storage(Element),
}

/// The element types of PyTorch's storages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    Half,
    BFloat16,
    Float,
    Double,
    Long,
    Int,
    Short,
    Char,
    Byte,
    Bool,
}

impl Global {
    pub(super) fn find(module: &str, name: &str) -> Option<Global> {
        let element = |element| Some(Global::Storage(element));
        match (module, name) {
            ("collections", "OrderedDict") => Some(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Global::RebuildParameter),
            ("torch", "Size") => Some(Global::Size),
            ("torch", "HalfStorage") => element(Element::Half),
            ("torch", "BFloat16Storage") => element(Element::BFloat16),
            ("torch", "FloatStorage") => element(Element::Float),
            ("torch", "DoubleStorage") => element(Element::Double),
            ("torch", "LongStorage") => element(Element::Long),
            ("torch", "IntStorage") => element(Element::Int),
            ("torch", "ShortStorage") => element(Element::Short),
            ("torch", "CharStorage") => element(Element::Char),
            ("torch", "ByteStorage") => element(Element::Byte),
            ("torch", "BoolStorage") => element(Element::Bool),
            _ => None,
        }
    }
}

/// Bytes that tensors share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage {
    pub(crate) element: Element,
    /// Its name among the container's storages.
    pub(crate) key: Span,
    /// Elements.
    pub(crate) len: i64,
}

/// A view of a storage, as the pickle says: nothing is checked but the kinds of its parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PickledTensor {
    pub(crate) storage: u32,
    /// In elements.
    pub(crate) offset: i64,
    /// A tuple.
    pub(crate) shape: Span,
    /// A tuple, in elements.
    pub(crate) strides: Span,
}

/// What a pickle describes.
pub(crate) struct Object<'a> {
    pub(super) bytes: &'a [u8],
    pub(crate) root: Value,
    pub(super) items: Vec<Value>,
    pub(super) lists: Vec<Vec<Value>>,
    pub(super) dicts: Vec<Vec<(Value, Value)>>,
    pub(crate) storages: Vec<Storage>,
    pub(super) tensors: Vec<PickledTensor>,
}

impl<'a> Object<'a> {
    /// Nothing yet of the pickle `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Object<'a> {
        let (items, lists, dicts, storages, tensors) = (vec![], vec![], vec![], vec![], vec![]);
        Object { bytes, root: Value::None, items, lists, dicts, storages, tensors }
    }

    /// A text; the reader has checked that it is UTF-8.
    pub(crate) fn text(&self, span: Span) -> &'a str {
        let bytes = &self.bytes[span.start as usize..][..span.len as usize];
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    pub(crate) fn tuple(&self, span: Span) -> &[Value] {
        &self.items[span.start as usize..][..span.len as usize]
    }

    pub(crate) fn list(&self, number: u32) -> &[Value] {
        &self.lists[number as usize]
    }

    pub(crate) fn dict(&self, number: u32) -> &[(Value, Value)] {
        &self.dicts[number as usize]
    }

    pub(crate) fn tensor(&self, number: u32) -> &PickledTensor {
        &self.tensors[number as usize]
    }
}
