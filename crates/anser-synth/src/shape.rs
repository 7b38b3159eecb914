//! The shapes of official models, and the element types of files.

use std::str::FromStr;

use anser_format::DType;

/// The number of tokens of the World vocabulary, padding included.
pub(crate) const N_VOCAB: usize = 65_536;

/// The number of channels per head.
pub(crate) const HEAD_SIZE: usize = 64;

/// The sizes of an RWKV-7 model; the head size is 64, the feed-forward width 4 · C, the vocabulary 65,536 tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The name, for example `"2.9b"`.
    pub name: &'static str,
    /// Number of layers.
    pub n_layer: usize,
    /// Width C.
    pub n_embd: usize,
    /// Rank of the low-rank matrices w1, w2 (decay) and a1, a2 (in-context learning rate).
    pub n_rank_wa: usize,
    /// Rank of v1, v2 (value residual).
    pub n_rank_v: usize,
    /// Rank of g1, g2 (gate).
    pub n_rank_g: usize,
}

impl Shape {
    /// The official sizes, and a tiny one that is wide enough for blocks of 256.
    pub const ALL: [Shape; 7] = [
        Shape { name: "tiny", n_layer: 3, n_embd: 256, n_rank_wa: 32, n_rank_v: 32, n_rank_g: 64 },
        Shape { name: "0.1b", n_layer: 12, n_embd: 768, n_rank_wa: 64, n_rank_v: 32, n_rank_g: 128 },
        Shape { name: "0.4b", n_layer: 24, n_embd: 1024, n_rank_wa: 64, n_rank_v: 32, n_rank_g: 128 },
        Shape { name: "1.5b", n_layer: 24, n_embd: 2048, n_rank_wa: 96, n_rank_v: 64, n_rank_g: 256 },
        Shape { name: "2.9b", n_layer: 32, n_embd: 2560, n_rank_wa: 96, n_rank_v: 64, n_rank_g: 320 },
        Shape { name: "7.2b", n_layer: 32, n_embd: 4096, n_rank_wa: 128, n_rank_v: 96, n_rank_g: 480 },
        Shape { name: "13.3b", n_layer: 61, n_embd: 4096, n_rank_wa: 128, n_rank_v: 96, n_rank_g: 480 },
    ];
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(name: &str) -> Result<Shape, String> {
        let known = || Shape::ALL.map(|shape| shape.name).join(", ");
        Shape::ALL.into_iter().find(|shape| shape.name == name).ok_or_else(|| format!("one of {} is needed", known()))
    }
}

/// The mix of element types in a file, named after the type of most of its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// Matrices F16.
    F16,
    /// Matrices Q8_0.
    Q8_0,
    /// Matrices Q4_K, the head Q6_K.
    Q4KM,
    /// Matrices Q5_K, the head Q6_K.
    Q5KM,
    /// Matrices Q6_K.
    Q6K,
}

impl FileType {
    /// Every file type.
    pub const ALL: [FileType; 5] = [FileType::F16, FileType::Q8_0, FileType::Q4KM, FileType::Q5KM, FileType::Q6K];

    /// The name, for example `"q4_k_m"`.
    pub fn name(self) -> &'static str {
        match self {
            FileType::F16 => "f16",
            FileType::Q8_0 => "q8_0",
            FileType::Q4KM => "q4_k_m",
            FileType::Q5KM => "q5_k_m",
            FileType::Q6K => "q6_k",
        }
    }

    /// Type of the large matrices and of the embedding.
    pub fn matrix_dtype(self) -> DType {
        match self {
            FileType::F16 => DType::F16,
            FileType::Q8_0 => DType::Q8_0,
            FileType::Q4KM => DType::Q4_K,
            FileType::Q5KM => DType::Q5_K,
            FileType::Q6K => DType::Q6_K,
        }
    }

    /// Type of the head, which maps the last layer to logits.
    pub fn head_dtype(self) -> DType {
        match self {
            FileType::F16 => DType::F16,
            FileType::Q8_0 => DType::Q8_0,
            FileType::Q4KM | FileType::Q5KM | FileType::Q6K => DType::Q6_K,
        }
    }

    /// The number under `general.file_type`, as llama.cpp counts file types.
    pub(crate) fn id(self) -> u32 {
        match self {
            FileType::F16 => 1,
            FileType::Q8_0 => 7,
            FileType::Q4KM => 15,
            FileType::Q5KM => 17,
            FileType::Q6K => 18,
        }
    }
}

impl FromStr for FileType {
    type Err = String;

    fn from_str(name: &str) -> Result<FileType, String> {
        let known = || FileType::ALL.map(FileType::name).join(", ");
        let found = FileType::ALL.into_iter().find(|file_type| file_type.name() == name);
        found.ok_or_else(|| format!("one of {} is needed", known()))
    }
}
