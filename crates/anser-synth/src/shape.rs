//! The shapes of official models, and the element types of files.

use std::str::FromStr;

use anser_format::DType;

/// The number of tokens of the World vocabulary, padding included.
pub(crate) const N_VOCAB: usize = 65_536;

/// The number of channels per head.
pub(crate) const HEAD_SIZE: usize = 64;

/// The RWKV version of a synthetic model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RWKV-4.
    V4,
    /// RWKV-5.2, the last of RWKV-5.
    V5,
    /// RWKV-6.
    V6,
    /// RWKV-7.
    V7,
}

/// What a model is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A GGUF file.
    Gguf,
    /// A `.pth` file.
    Pth,
    /// A Hugging Face folder.
    Folder,
}

/// The sizes of a model; the head size is 64, the vocabulary 65,536 tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The RWKV version.
    pub version: Version,
    /// The name, for example `"2.9b"` or `"v6-1.6b"`.
    pub name: &'static str,
    /// Number of layers.
    pub n_layer: usize,
    /// Width C.
    pub n_embd: usize,
    /// Rank of the low-rank matrices of the decay, and of RWKV-7's in-context learning rate (a1, a2); 0 before RWKV-6.
    pub n_rank_wa: usize,
    /// Rank of v1, v2 (value residual) in RWKV-7, of the five pairs that mix tokens in RWKV-6; 0 before.
    pub n_rank_v: usize,
    /// Rank of g1, g2 (gate) in RWKV-7; 0 before.
    pub n_rank_g: usize,
}

const fn v7(name: &'static str, n_layer: usize, n_embd: usize, ranks: [usize; 3]) -> Shape {
    let [n_rank_wa, n_rank_v, n_rank_g] = ranks;
    Shape { version: Version::V7, name, n_layer, n_embd, n_rank_wa, n_rank_v, n_rank_g }
}

const fn v6(name: &'static str, n_layer: usize, n_embd: usize) -> Shape {
    let [n_rank_wa, n_rank_v] = if n_embd < 4096 { [64, 32] } else { [128, 64] };
    Shape { version: Version::V6, name, n_layer, n_embd, n_rank_wa, n_rank_v, n_rank_g: 0 }
}

const fn older(version: Version, name: &'static str, n_layer: usize, n_embd: usize) -> Shape {
    Shape { version, name, n_layer, n_embd, n_rank_wa: 0, n_rank_v: 0, n_rank_g: 0 }
}

impl Shape {
    /// The official sizes, and of every version a tiny one that is wide enough for blocks of 256.
    pub const ALL: [Shape; 25] = [
        v7("tiny", 3, 256, [32, 32, 64]),
        v7("0.1b", 12, 768, [64, 32, 128]),
        v7("0.4b", 24, 1024, [64, 32, 128]),
        v7("1.5b", 24, 2048, [96, 64, 256]),
        v7("2.9b", 32, 2560, [96, 64, 320]),
        v7("7.2b", 32, 4096, [128, 96, 480]),
        v7("13.3b", 61, 4096, [128, 96, 480]),
        v6("v6-tiny", 3, 256),
        v6("v6-0.1b", 12, 768),
        v6("v6-1.6b", 24, 2048),
        v6("v6-3b", 32, 2560),
        v6("v6-7b", 32, 4096),
        older(Version::V5, "v5-tiny", 3, 256),
        older(Version::V5, "v5-0.1b", 12, 768),
        older(Version::V5, "v5-0.4b", 24, 1024),
        older(Version::V5, "v5-1.5b", 24, 2048),
        older(Version::V5, "v5-3b", 32, 2560),
        older(Version::V5, "v5-7b", 32, 4096),
        older(Version::V4, "v4-tiny", 3, 256),
        older(Version::V4, "v4-169m", 12, 768),
        older(Version::V4, "v4-430m", 24, 1024),
        older(Version::V4, "v4-1.5b", 24, 2048),
        older(Version::V4, "v4-3b", 32, 2560),
        older(Version::V4, "v4-7b", 32, 4096),
        older(Version::V4, "v4-14b", 40, 5120),
    ];

    /// Width F of the feed-forward layer: 4 · C, in RWKV-5 and RWKV-6 3.5 · C.
    pub fn n_ffn(&self) -> usize {
        match self.version {
            Version::V4 | Version::V7 => 4 * self.n_embd,
            Version::V5 | Version::V6 => 7 * self.n_embd / 2,
        }
    }
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
