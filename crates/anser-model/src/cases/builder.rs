//! Inputs and weights of cases.

use super::Case;
use crate::builder::PlanBuilder;
use crate::plan::{Rows, ValueId};
use crate::state::{StateLayout, StatePart};
use crate::weights::Weight;
use anser_format::{DType, GgufWriter, ModelFile};
use std::sync::Arc;

/// Makes inputs and weights from a seed that depends on the case's name alone.
pub(super) struct CaseBuilder {
    name: String,
    pub(super) plan: PlanBuilder,
    layout: StateLayout,
    pub(super) tokens: Vec<u32>,
    lengths: Vec<usize>,
    pub(super) outputs: Vec<u32>,
    inputs: Vec<(ValueId, Vec<f32>)>,
    random: Random,
}

/// Layers of a case's state: more than one, so that a kernel that forgets the layer's offset is caught.
pub(super) const N_LAYER: usize = 3;

impl CaseBuilder {
    pub(super) fn new(name: String, lengths: &[usize]) -> CaseBuilder {
        CaseBuilder::with_layout(name, lengths, StateLayout { n_layer: 0, parts: vec![] })
    }

    pub(super) fn with_state(name: String, lengths: &[usize], part: StatePart) -> CaseBuilder {
        CaseBuilder::with_layout(name, lengths, StateLayout { n_layer: N_LAYER, parts: vec![part] })
    }

    pub(super) fn with_layout(name: String, lengths: &[usize], layout: StateLayout) -> CaseBuilder {
        let random = Random::new(&name);
        let n_vocab = 300;
        let tokens = vec![0; lengths.iter().sum()];
        let plan = PlanBuilder::new(name.clone(), layout.clone(), n_vocab);
        CaseBuilder { name, plan, layout, tokens, lengths: lengths.to_vec(), outputs: vec![], inputs: vec![], random }
    }

    pub(super) fn input(&mut self, name: &str, n_cols: usize, range: std::ops::Range<f32>) -> ValueId {
        let id = self.plan.input(name, Rows::Tokens, n_cols);
        self.inputs.push((id, self.random.vector(self.tokens.len() * n_cols, range)));
        id
    }

    /// Scales every head of an input to length 1, as `Op::KeyControl` leaves it: the recurrence is stable only then.
    pub(super) fn normalise_heads(&mut self, id: ValueId, n: usize) {
        for (_, data) in self.inputs.iter_mut().filter(|(i, _)| *i == id) {
            for head in data.chunks_exact_mut(n) {
                let length = head.iter().map(|x| x * x).sum::<f32>().sqrt();
                head.iter_mut().for_each(|x| *x /= length);
            }
        }
    }

    pub(super) fn vector(&mut self, name: &str, len: usize, range: std::ops::Range<f32>) -> Weight {
        let bytes = self.random.vector(len, range).into_iter().flat_map(f32::to_le_bytes).collect();
        weight(name, DType::F32, [1, len], bytes)
    }

    pub(super) fn matrix(&mut self, name: &str, dtype: DType, shape: [usize; 2]) -> Weight {
        let bytes = self.random.blocks(dtype, shape[0] * shape[1] / dtype.block_len());
        weight(name, dtype, shape, bytes)
    }

    pub(super) fn finish(mut self, reads: &[ValueId]) -> Case {
        let len = self.layout.len();
        let states = self.lengths.iter().map(|_| self.random.vector(len, -1.0..1.0)).collect();
        Case {
            name: self.name,
            plan: Arc::new(self.plan.finish(None, None)),
            tokens: self.tokens,
            lengths: self.lengths,
            outputs: self.outputs,
            inputs: self.inputs,
            states,
            reads: reads.to_vec(),
            bound: 1e-10,
        }
    }
}

/// A weight in a file of its own, in memory.
#[allow(clippy::expect_used, reason = "the table's own shapes are valid")]
fn weight(name: &str, dtype: DType, shape: [usize; 2], bytes: Vec<u8>) -> Weight {
    let mut writer = GgufWriter::new();
    writer.tensor(name, dtype, &shape).expect("a valid tensor");
    let mut file = writer.begin(vec![]).expect("memory takes all bytes");
    file.write_tensor(name, [bytes]).expect("bytes as declared");
    let file = ModelFile::from_bytes("case", file.finish().expect("all tensors written")).expect("a valid file");
    let tensor = file.tensor(name).expect("just written");
    Weight::from_tensor(name, tensor, shape[0], shape[1]).expect("bytes as declared")
}

/// SplitMix64 (Steele, Lea, Flood 2014), seeded by a name.
struct Random(u64);

impl Random {
    fn new(name: &str) -> Random {
        // FNV-1a
        Random(name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn vector(&mut self, len: usize, range: std::ops::Range<f32>) -> Vec<f32> {
        let unit = |bits: u64| (bits >> 40) as f32 / (1u32 << 24) as f32;
        (0..len).map(|_| range.start + (range.end - range.start) * unit(self.next())).collect()
    }

    /// Blocks of random bits, with scales that keep the elements near ±1.
    fn blocks(&mut self, dtype: DType, n_blocks: usize) -> Vec<u8> {
        let mut bytes = vec![];
        for _ in 0..n_blocks {
            match dtype {
                DType::F32 => bytes.extend(self.vector(1, -1.0..1.0)[0].to_le_bytes()),
                DType::F16 => bytes.extend(f16_bits(self.vector(1, -1.0..1.0)[0]).to_le_bytes()),
                DType::BF16 => bytes.extend(&self.vector(1, -1.0..1.0)[0].to_le_bytes()[2..]),
                _ => self.quantized_block(dtype, &mut bytes),
            }
        }
        bytes
    }

    fn quantized_block(&mut self, dtype: DType, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.resize_with(start + dtype.block_n_bytes(), || self.next() as u8);
        for &(at, scale) in scale_fields(dtype) {
            let scale = f16_bits(self.vector(1, scale * 0.5..scale)[0]);
            bytes[start + at..start + at + 2].copy_from_slice(&scale.to_le_bytes());
        }
        if dtype == DType::IQ1_M {
            // Four bits of the scale are the upper ones of each of the last four 16-bit numbers.
            let scale = f16_bits(self.vector(1, 0.5 / 17.0..1.0 / 17.0)[0]);
            for j in 0..4 {
                let byte = &mut bytes[start + 49 + 2 * j];
                *byte = *byte & 15 | ((scale >> (4 * j) & 15) as u8) << 4;
            }
        }
    }
}

/// Where a block keeps its F16 scales, and the size that brings its elements near ±1.
fn scale_fields(dtype: DType) -> &'static [(usize, f32)] {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => &[],
        DType::Q8_0 => &[(0, 1.0 / 128.0)],
        DType::Q4_0 => &[(0, 1.0 / 8.0)],
        DType::Q4_1 => &[(0, 1.0 / 8.0), (2, -1.0)],
        DType::Q5_0 => &[(0, 1.0 / 16.0)],
        DType::Q5_1 => &[(0, 1.0 / 16.0), (2, -1.0)],
        DType::Q2_K => &[(80, 1.0 / 24.0), (82, 1.0 / 16.0)],
        DType::Q3_K => &[(108, 1.0 / 128.0)],
        DType::Q4_K => &[(0, 1.0 / 480.0), (2, 1.0 / 64.0)],
        DType::Q5_K => &[(0, 1.0 / 960.0), (2, 1.0 / 64.0)],
        DType::Q6_K => &[(208, 1.0 / 4096.0)],
        DType::IQ4_NL => &[(0, 1.0 / 128.0)],
        DType::IQ4_XS => &[(0, 1.0 / 4096.0)],
        DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S => &[(0, 1.0 / 166.0)],
        DType::IQ3_XXS | DType::IQ3_S => &[(0, 1.0 / 480.0)],
        DType::IQ1_S => &[(0, 1.0 / 17.0)],
        // Its scale lies in pieces, see `quantized_block`.
        DType::IQ1_M => &[],
    }
}

/// The F16 at or just below |x| with x's sign; |x| must lie between 2⁻¹⁴ and 65504, or be tiny and become zero.
fn f16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    match ((bits >> 23) as i32 & 0xff) - 112 {
        ..=0 => sign,
        exponent => sign | (exponent as u16) << 10 | (bits >> 13) as u16 & 0x3ff,
    }
}
