//! A product with random operands, and its result in 64-bit arithmetic.

use crate::blocks::MatrixKinds;
use crate::matmul::{DeviceLayout, MatMul, layout, row_class};
use anser_format::quant::dequantize;
use anser_format::{DType, GgufWriter, ModelFile};
use anser_model::{Activation, Op, Plan, PlanBuilder, Rows, StateLayout, ValueId, Weight, WeightId};
use std::ops::Range;

/// Sizes of a product, and what follows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Product {
    /// Storage type of the weights.
    pub dtype: DType,
    /// R.
    pub n_rows: usize,
    /// Columns of the weights, a multiple of the type's block length.
    pub n_cols: usize,
    /// T.
    pub n_tokens: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// After the bias.
    pub activation: Activation,
    /// Whether there is a residual.
    pub residual: bool,
    /// Whether nine of ten inputs are zero, and the weights lie in panels if they can.
    pub sparse: bool,
}

/// The operands of a [`Product`].
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) product: Product,
    plan: Plan,
    weight: WeightId,
    bias: Option<WeightId>,
    x: ValueId,
    residual: Option<ValueId>,
    out: ValueId,
    layout: DeviceLayout,
    /// `[T, n_cols]`
    pub(crate) x_data: Vec<f32>,
    /// `[T, R]`
    pub(crate) residual_data: Vec<f32>,
}

impl Problem {
    /// Operands of seeded random bits: weights and activations between −1 and 1.
    pub(crate) fn new(product: Product) -> Problem {
        let Product { dtype, n_rows, n_cols, n_tokens, .. } = product;
        let mut random = Random(0x5eed ^ (n_rows * 31 + n_cols) as u64);
        let matrix = matrix("weight", dtype, [n_rows, n_cols], random.weights(dtype, n_rows * n_cols));
        let mut builder = PlanBuilder::new("product".into(), StateLayout { n_layer: 0, parts: vec![] }, 1);
        let x = builder.input("x", Rows::Tokens, n_cols);
        let residual = product.residual.then(|| builder.input("residual", Rows::Tokens, n_rows));
        let bias = product.bias.then(|| matrix_of_f32("bias", &random.values(n_rows)));
        let out = builder.matmul_with("out", matrix, x, bias, product.activation, residual);
        let plan = builder.finish(None, None);
        let (weight, bias) = match &plan.nodes[0].op {
            Op::MatMul { weight, bias, .. } => (*weight, *bias),
            _ => unreachable!("the plan's only operation is a product"),
        };
        let by_rows = layout(plan.weight(weight));
        let in_panels = by_rows.in_panels([n_rows, n_cols]).filter(|_| product.sparse);
        let layout = in_panels.unwrap_or(by_rows);
        let residual_data = if product.residual { random.values(n_tokens * n_rows) } else { vec![] };
        let mut x_data = random.values(n_tokens * n_cols);
        if product.sparse {
            x_data
                .iter_mut()
                .zip(random.values(n_tokens * n_cols))
                .filter(|(_, v)| *v < 0.8)
                .for_each(|(x, _)| *x = 0.0);
        }
        Problem { product, plan, weight, bias, x, residual, out, layout, x_data, residual_data }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(crate) fn weight(&self) -> WeightId {
        self.weight
    }

    pub(crate) fn matrix(&self) -> &Weight {
        self.plan.weight(self.weight)
    }

    pub(crate) fn layout(&self) -> DeviceLayout {
        self.layout
    }

    /// What the matrix's layout depends on.
    pub(crate) fn kinds(&self) -> MatrixKinds {
        let mut kinds = MatrixKinds::of(&self.plan, false);
        kinds.in_panels.extend((self.layout.panel_len > 1).then_some(self.weight.index()));
        kinds
    }

    pub(crate) fn bias(&self) -> Option<(WeightId, Vec<f32>)> {
        self.bias.map(|id| (id, self.plan.weight(id).to_f32()))
    }

    /// The operation, with its matrix in the given row ranges.
    pub(crate) fn op<'a>(&self, splits: &'a [Range<usize>]) -> MatMul<'a> {
        MatMul {
            weight: self.weight,
            layout: self.layout,
            n_rows: self.product.n_rows,
            n_cols: self.product.n_cols,
            splits,
            x: self.x,
            bias: self.bias,
            activation: self.product.activation,
            residual: self.residual,
            out: self.out,
            in_halves: [false; 2],
            rows: Rows::Tokens,
            class: row_class(self.product.n_tokens),
        }
    }

    pub(crate) fn is_residual(&self, id: ValueId) -> bool {
        self.residual == Some(id)
    }

    pub(crate) fn is_out(&self, id: ValueId) -> bool {
        self.out == id
    }

    /// Column `row` of the result, `[T]`, from the values that the file's format defines.
    pub(crate) fn reference(&self, row: usize) -> Vec<f64> {
        let Product { n_rows, n_cols, activation, .. } = self.product;
        let mut weights = vec![0.0; n_cols];
        dequantize(self.matrix().dtype(), self.matrix().row(row), &mut weights);
        let bias = self.bias.map_or(0.0, |id| self.plan.weight(id).to_f32()[row]);
        let tokens = self.x_data.chunks_exact(n_cols).enumerate();
        tokens
            .map(|(t, x)| {
                let sum: f64 = weights.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                let residual = self.residual_data.get(t * n_rows + row).copied().unwrap_or(0.0);
                f64::from(residual) + activate(activation, sum + f64::from(bias))
            })
            .collect()
    }
}

fn activate(activation: Activation, z: f64) -> f64 {
    let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
    match activation {
        Activation::Identity => z,
        Activation::Tanh => z.tanh(),
        Activation::Sigmoid => sigmoid(z),
        Activation::ReluSquared => z.max(0.0).powi(2),
        Activation::Decay => (-0.606531 * sigmoid(z)).exp(),
        Activation::Silu => z * sigmoid(z),
        Activation::Decay6 => (-z.exp()).exp(),
    }
}

#[allow(clippy::expect_used, reason = "the shapes are those of the bytes")]
fn matrix(name: &str, dtype: DType, shape: [usize; 2], bytes: Vec<u8>) -> Weight {
    let mut writer = GgufWriter::new();
    writer.tensor(name, dtype, &shape).expect("a valid tensor");
    let mut file = writer.begin(vec![]).expect("memory takes all bytes");
    file.write_tensor(name, [bytes]).expect("bytes as declared");
    let file = ModelFile::from_bytes(name, file.finish().expect("all tensors written")).expect("a valid file");
    let tensor = file.tensor(name).expect("just written");
    Weight::from_tensor(name, tensor, shape[0], shape[1]).expect("bytes as declared")
}

fn matrix_of_f32(name: &str, values: &[f32]) -> Weight {
    matrix(name, DType::F32, [1, values.len()], values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Numbers in −1..1.
    fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.next() as i64 >> 40) as f32 / (1 << 23) as f32).collect()
    }

    /// Elements of random bits but for the exponents (floats) and scales (blocks).
    fn weights(&mut self, dtype: DType, n_elements: usize) -> Vec<u8> {
        let n_bytes = n_elements / dtype.block_len() * dtype.block_n_bytes();
        let mut bytes: Vec<u8> = (0..n_bytes.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(n_bytes);
        for block in bytes.chunks_exact_mut(dtype.block_n_bytes()) {
            match dtype {
                // Magnitudes from a quarter to a half.
                DType::F32 | DType::BF16 => {
                    let n = block.len();
                    block[n - 2] |= 0x80;
                    block[n - 1] = block[n - 1] & 0x80 | 0x3e;
                }
                DType::F16 => block[1] = block[1] & 0x83 | 0x34,
                _ => {
                    for &at in scale_positions(dtype) {
                        // From 2⁻¹⁰ to 2⁻⁹.
                        block[at + 1] = block[at + 1] & 0x03 | 0x14;
                    }
                }
            }
        }
        bytes
    }
}

/// Where a block keeps its F16 scales.
fn scale_positions(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => &[],
        DType::Q8_0 | DType::Q4_0 | DType::Q5_0 | DType::IQ4_NL | DType::IQ4_XS => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
    }
}
