//! How tensors of a file are stored, whether or not the engine computes with that type.

use std::fmt;

use crate::tensor::DType;

/// The type of a tensor in a file. A file may hold tensors of any type; only those that a model reads need one of
/// [`DType::ALL`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredType {
    /// A type that the engine computes with.
    Computed(DType),
    /// Another type, by the name that its format gives it, for example `I64` or `NVFP4`.
    Other(Box<str>),
}

impl StoredType {
    /// The type, if the engine computes with it.
    pub fn computed(&self) -> Option<DType> {
        match self {
            StoredType::Computed(dtype) => Some(*dtype),
            StoredType::Other(_) => None,
        }
    }

    /// The type's name, for example `"Q4_K"` or `"I64"`.
    pub fn name(&self) -> &str {
        match self {
            StoredType::Computed(dtype) => dtype.name(),
            StoredType::Other(name) => name,
        }
    }
}

impl From<DType> for StoredType {
    fn from(dtype: DType) -> StoredType {
        StoredType::Computed(dtype)
    }
}

impl fmt::Display for StoredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Elements of a block, and the bytes that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) len: usize,
    pub(crate) n_bytes: usize,
}

impl Block {
    /// The block of a type that the engine computes with.
    pub(crate) fn of(dtype: DType) -> Block {
        Block { len: dtype.block_len(), n_bytes: dtype.block_n_bytes() }
    }
}

/// A type of ggml's: number, name, and elements and bytes of a block where they are known.
type GgmlType = (u32, &'static str, Option<(usize, usize)>);

/// ggml's types that the engine does not compute with.
const GGML_OTHER: [GgmlType; 20] = [
    (4, "Q4_2 (removed from GGUF)", None),
    (5, "Q4_3 (removed from GGUF)", None),
    (9, "Q8_1", Some((32, 36))),
    (15, "Q8_K", Some((256, 292))),
    (24, "I8", Some((1, 1))),
    (25, "I16", Some((1, 2))),
    (26, "I32", Some((1, 4))),
    (27, "I64", Some((1, 8))),
    (28, "F64", Some((1, 8))),
    (31, "Q4_0_4_4 (removed from GGUF)", None),
    (32, "Q4_0_4_8 (removed from GGUF)", None),
    (33, "Q4_0_8_8 (removed from GGUF)", None),
    (34, "TQ1_0", Some((256, 54))),
    (35, "TQ2_0", Some((256, 66))),
    (36, "IQ4_NL_4_4 (removed from GGUF)", None),
    (37, "IQ4_NL_4_8 (removed from GGUF)", None),
    (38, "IQ4_NL_8_8 (removed from GGUF)", None),
    (39, "MXFP4", Some((32, 17))),
    (40, "NVFP4", Some((64, 36))),
    (41, "Q1_0", Some((128, 18))),
];

/// The type that a number in a GGUF tensor table stands for, and its block where the size of one is known.
pub(crate) fn ggml_type(id: u32) -> (StoredType, Option<Block>) {
    if let Some(dtype) = DType::from_ggml_id(id) {
        return (dtype.into(), Some(Block::of(dtype)));
    }
    match GGML_OTHER.iter().find(|(number, ..)| *number == id) {
        Some(&(_, name, block)) => (StoredType::Other(name.into()), block.map(|(len, n_bytes)| Block { len, n_bytes })),
        None => (StoredType::Other(format!("number {id} (unknown)").into()), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_up_to_the_newest_type_has_a_name() {
        for id in 0..=41 {
            let (stored, _) = ggml_type(id);
            assert!(!stored.name().contains("unknown"), "{id}: {stored}");
        }
        assert_eq!(ggml_type(12), (DType::Q4_K.into(), Some(Block { len: 256, n_bytes: 144 })));
        assert_eq!(ggml_type(40).0.name(), "NVFP4");
        assert_eq!(ggml_type(99), (StoredType::Other("number 99 (unknown)".into()), None));
    }
}
