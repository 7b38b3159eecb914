//! The table of storage types. A new type of files has a row in [`kept`]; a new type on the device is a [`DeviceType`] with its
//! WGSL file, and the compiler asks for every field.

use super::repack::{self, Write};
use crate::device::kernel::{Module, wgsl};
use anser_format::DType;
use anser_format::quant::{BlockIq1M, BlockIq1S, BlockIq2S, BlockIq2Xs, BlockIq2Xxs, BlockIq3S, BlockIq3Xxs};

/// A storage type that kernels read.
#[derive(Debug)]
pub(crate) struct DeviceType {
    pub(crate) dtype: DType,
    /// Columns that a thread decodes at a time (`wgsl/weight/`).
    pub(crate) unit_len: usize,
    /// Bytes of [`DType::block_len`] columns on the device.
    pub(crate) block_n_bytes: usize,
    /// Number of a float type in `wgsl/matmul/jobs.wgsl`; `None` if it is quantized, and each kernel is made for one such type.
    pub(crate) float_kind: Option<u32>,
    /// The WGSL files that decode it, in order.
    pub(crate) modules: &'static [&'static Module],
    /// Names of its products in profiles.
    pub(crate) labels: Labels,
}

/// Names of the products of a storage type in profiles, one for each kind of kernel.
#[derive(Debug)]
pub(crate) struct Labels {
    pub(crate) vec_f32: &'static str,
    pub(crate) vec_int8: &'static str,
    pub(crate) held: &'static str,
    pub(crate) sparse: &'static str,
    pub(crate) tiled: &'static str,
    pub(crate) gemm: &'static str,
}

macro_rules! labels {
    ($name:literal) => {
        Labels {
            vec_f32: concat!("vec_", $name),
            vec_int8: concat!("vec_int8_", $name),
            held: concat!("held_", $name),
            sparse: concat!("sparse_", $name),
            tiled: concat!("tiled_", $name),
            gemm: concat!("gemm_", $name),
        }
    };
}

static F16: DeviceType = DeviceType {
    dtype: DType::F16,
    unit_len: 16,
    block_n_bytes: 2,
    float_kind: Some(1),
    modules: &[wgsl!("weight/piece.wgsl"), wgsl!("weight/f16.wgsl")],
    labels: labels!("F16"),
};

static BF16: DeviceType = DeviceType {
    dtype: DType::BF16,
    unit_len: 16,
    block_n_bytes: 2,
    float_kind: Some(2),
    modules: &[wgsl!("weight/piece.wgsl"), wgsl!("weight/bf16.wgsl")],
    labels: labels!("BF16"),
};

static F32: DeviceType = DeviceType {
    dtype: DType::F32,
    unit_len: 16,
    block_n_bytes: 4,
    float_kind: Some(3),
    modules: &[wgsl!("weight/piece.wgsl"), wgsl!("weight/f32.wgsl")],
    labels: labels!("F32"),
};

static Q8_0: DeviceType = DeviceType {
    dtype: DType::Q8_0,
    unit_len: 32,
    block_n_bytes: 34,
    float_kind: None,
    modules: &[wgsl!("weight/piece.wgsl"), wgsl!("weight/q8_0.wgsl"), wgsl!("weight/quantized.wgsl")],
    labels: labels!("Q8_0"),
};

static Q4_K: DeviceType = DeviceType {
    dtype: DType::Q4_K,
    unit_len: 32,
    block_n_bytes: 144,
    float_kind: None,
    modules: &[
        wgsl!("weight/piece.wgsl"),
        wgsl!("weight/k_scales.wgsl"),
        wgsl!("weight/q4_k.wgsl"),
        wgsl!("weight/quantized.wgsl"),
    ],
    labels: labels!("Q4_K"),
};

static Q5_K: DeviceType = DeviceType {
    dtype: DType::Q5_K,
    unit_len: 32,
    block_n_bytes: 176,
    float_kind: None,
    modules: &[
        wgsl!("weight/piece.wgsl"),
        wgsl!("weight/k_scales.wgsl"),
        wgsl!("weight/q5_k.wgsl"),
        wgsl!("weight/quantized.wgsl"),
    ],
    labels: labels!("Q5_K"),
};

static Q6_K: DeviceType = DeviceType {
    dtype: DType::Q6_K,
    unit_len: 64,
    block_n_bytes: 210,
    float_kind: None,
    modules: &[wgsl!("weight/piece.wgsl"), wgsl!("weight/q6_k.wgsl"), wgsl!("weight/quantized.wgsl")],
    labels: labels!("Q6_K"),
};

static IQ1_S: DeviceType = DeviceType {
    dtype: DType::IQ1_S,
    unit_len: 32,
    block_n_bytes: 144,
    float_kind: None,
    modules: &[
        wgsl!("weight/piece.wgsl"),
        wgsl!("weight/magnitudes_iq1.wgsl"),
        wgsl!("weight/codebooks.wgsl"),
        wgsl!("weight/quantized.wgsl"),
    ],
    labels: labels!("IQ1_S"),
};

static IQ2_S: DeviceType = DeviceType {
    dtype: DType::IQ2_S,
    unit_len: 32,
    block_n_bytes: 144,
    float_kind: None,
    modules: &[
        wgsl!("weight/piece.wgsl"),
        wgsl!("weight/magnitudes_iq2.wgsl"),
        wgsl!("weight/codebooks.wgsl"),
        wgsl!("weight/quantized.wgsl"),
    ],
    labels: labels!("IQ2_S"),
};

static IQ3_XXS: DeviceType = DeviceType {
    dtype: DType::IQ3_XXS,
    unit_len: 32,
    block_n_bytes: 144,
    float_kind: None,
    modules: &[
        wgsl!("weight/piece.wgsl"),
        wgsl!("weight/magnitudes_iq3_xxs.wgsl"),
        wgsl!("weight/codebooks.wgsl"),
        wgsl!("weight/quantized.wgsl"),
    ],
    labels: labels!("IQ3_XXS"),
};

static IQ3_S: DeviceType = DeviceType {
    dtype: DType::IQ3_S,
    unit_len: 32,
    block_n_bytes: 144,
    float_kind: None,
    modules: &[
        wgsl!("weight/piece.wgsl"),
        wgsl!("weight/magnitudes_iq3_s.wgsl"),
        wgsl!("weight/codebooks.wgsl"),
        wgsl!("weight/quantized.wgsl"),
    ],
    labels: labels!("IQ3_S"),
};

/// How matrices of a storage type of files are kept on the device.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The type that they have there.
    pub(crate) on_device: &'static DeviceType,
    /// Whether the device decodes the very numbers that the host does: products of a scale and a quant are exact in f32.
    pub(crate) is_exact: bool,
    /// Writes a row as the device has it; `None` if it is copied as it is.
    pub(crate) write: Option<Write>,
}

/// How matrices of type `dtype` are kept.
///
/// Q4_0, Q5_0, IQ4_NL (as Q8_0) and Q3_K (as Q6_K) lose nothing. IQ4_XS as Q8_0 rounds its 32-column scales to F16; Q4_1,
/// Q5_1 and Q2_K have offsets that only floats can hold next to their scales: as F16 their values are rounded. Of the types whose
/// integers come from codebooks the device has the integers in 4 bits each, and loses nothing: IQ1_M as IQ1_S, IQ2_XXS and IQ2_XS as IQ2_S.
pub(crate) fn kept(dtype: DType) -> Kept {
    let verbatim = |on_device| Kept { on_device, is_exact: true, write: None };
    let exact = |on_device, write: Write| Kept { on_device, is_exact: true, write: Some(write) };
    let rounded = |on_device, write: Write| Kept { on_device, is_exact: false, write: Some(write) };
    match dtype {
        DType::F32 => verbatim(&F32),
        DType::F16 => verbatim(&F16),
        DType::BF16 => verbatim(&BF16),
        DType::Q4_K => verbatim(&Q4_K),
        DType::Q5_K => verbatim(&Q5_K),
        DType::Q8_0 => exact(&Q8_0, repack::q8_0),
        DType::Q6_K => exact(&Q6_K, repack::q6_k),
        DType::Q4_0 => exact(&Q8_0, repack::q4_0),
        DType::Q5_0 => exact(&Q8_0, repack::q5_0),
        DType::IQ4_NL => exact(&Q8_0, repack::iq4_nl),
        DType::Q3_K => exact(&Q6_K, repack::q3_k),
        DType::IQ1_S => exact(&IQ1_S, repack::codebook::<BlockIq1S, 50, 8>),
        DType::IQ1_M => exact(&IQ1_S, repack::codebook::<BlockIq1M, 56, 16>),
        DType::IQ2_XXS => exact(&IQ2_S, repack::codebook::<BlockIq2Xxs, 66, 8>),
        DType::IQ2_XS => exact(&IQ2_S, repack::codebook::<BlockIq2Xs, 74, 16>),
        DType::IQ2_S => exact(&IQ2_S, repack::codebook::<BlockIq2S, 82, 16>),
        DType::IQ3_XXS => exact(&IQ3_XXS, repack::codebook::<BlockIq3Xxs, 98, 8>),
        DType::IQ3_S => exact(&IQ3_S, repack::codebook::<BlockIq3S, 110, 8>),
        DType::IQ4_XS => rounded(&Q8_0, repack::iq4_xs),
        DType::Q4_1 => rounded(&F16, repack::q4_1),
        DType::Q5_1 => rounded(&F16, repack::q5_1),
        DType::Q2_K => rounded(&F16, repack::q2_k),
    }
}
