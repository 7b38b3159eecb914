//! Every kernel of every storage type against 64-bit arithmetic on the values that the file's format defines, and the
//! device layouts against the file's.

use super::bench::problem::{Problem, Product};
use super::bench::rig::Rig;
use super::bench::{describe, gemm_forms, nmse};
use super::form::{Form, TiledShape, VecShape};
use super::gemm::GemmShape;
use super::held::HeldShape;
use super::lower_as;
use super::sparse::{SparseShape, reads_panels};
use crate::compile::fuse;
use crate::compile::lowering::Lowering;
use crate::compile::schedule::{Schedule, Sharing};
use crate::compile::target::{Precision, RowClass};
use crate::device::features::{Features, Matrices};
use crate::device::{Device, DeviceChoice, DeviceKind};
use crate::kernels::{RULES, target};
use crate::memory::layout::WeightLayout;
use crate::quant::kept;
use crate::tests::large_device;
use anser_format::DType;
use anser_format::quant::dequantize;
use anser_model::Activation;
use std::sync::Arc;

const TYPES: [DType; 7] = [DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_K, DType::Q5_K, DType::Q6_K];

fn device() -> Arc<Device> {
    let adapters = Device::list();
    let hardware = adapters.iter().find(|a| a.kind != DeviceKind::Software);
    let adapter = hardware.or(adapters.first()).expect("these tests need a GPU adapter, if only a software one");
    Device::open(&DeviceChoice::Number(adapter.number)).unwrap()
}

fn plain(dtype: DType, [n_rows, n_cols]: [usize; 2], n_tokens: usize) -> Product {
    let activation = Activation::Identity;
    Product { dtype, n_rows, n_cols, n_tokens, bias: false, activation, residual: false, sparse: false }
}

/// The largest squared error, relative to the squared values, that the form's number formats explain.
fn bound(form: Form, dtype: DType) -> f64 {
    match form {
        // f32 operands and sums: 2⁻²⁴ per operation, which adds up over a sum; cancellation costs a digit or two.
        Form::VecF32 { .. } | Form::Sparse { .. } | Form::Tiled { .. } => 1e-11,
        Form::Held { .. } if !dtype.is_quantized() => 1e-11,
        // Both operands are rounded to 11 bits: a relative error of up to 2⁻¹¹ each, (2⁻¹¹)² / 3 squared on average.
        Form::Gemm { .. } => 1e-6,
        // Activations are rounded to 1/254 of the largest of 16, which is near the largest of all here: uniform numbers
        // of variance 1/3 get a uniform error of variance (1/127)² / 12, a ratio of 1.6e-5, more or less in a sample.
        Form::VecInt8 { .. } | Form::Held { .. } => 5e-5,
    }
}

/// Runs `product` in `form` and compares all of its result.
fn check(device: &Device, product: Product, form: Form, split_rows: usize) {
    check_with(device, device.features(), product, form, split_rows);
}

/// The same by kernels for `features`.
fn check_with(device: &Device, features: Features, product: Product, form: Form, split_rows: usize) {
    let problem = Problem::new(product);
    let rig = Rig::new(device, features, &problem, 1, split_rows).unwrap();
    let prepared = rig.prepare(form).unwrap();
    rig.run(&prepared.iter().collect::<Vec<_>>(), 1).unwrap();
    let result = rig.result().unwrap();
    let rows: Vec<usize> = (0..product.n_rows).collect();
    let reference: Vec<_> = rows.iter().map(|&row| problem.reference(row)).collect();
    let error = nmse(&result, &reference, &rows, product.n_rows);
    assert!(error <= bound(form, product.dtype), "{product:?} as {}: nmse {error:e}", describe(form));
}

/// Every form; of cooperative matrices where the hardware has them.
fn forms(device: &Device, product: Product) -> Vec<Form> {
    let problem = Problem::new(product);
    let (op, features) = (problem.op(&[]), device.features());
    let mut forms = vec![];
    let chosen = Form::choose(&op, &features, Precision::Exact);
    if let Form::Sparse { shape } = chosen {
        // Several rounds, and threads that have no block.
        let least = features.subgroup_size[1].max(op.class.0 * op.layout.panel_len as u32);
        let shapes = [shape.workgroup, least, shape.workgroup + least].map(|workgroup| SparseShape { workgroup });
        forms.extend(shapes.map(|shape| Form::Sparse { shape }));
    } else if let Form::VecF32 { shape } = chosen {
        let without_subgroups = VecShape { workgroup: 64, n_lanes: 16, in_subgroup: false, subgroup_len: 0 };
        for shape in [shape, without_subgroups] {
            forms.push(Form::VecF32 { shape });
            if op.layout.dtype.is_quantized() {
                forms.push(Form::VecInt8 { shape });
            }
        }
        let n_shares = super::held::n_shares(op.layout.dtype, op.n_cols);
        let held = HeldShape::choose(&[n_shares], false, &features).filter(|_| op.class == RowClass(8));
        forms.extend(held.map(|shape| Form::Held { shape }));
    } else {
        let wide = TiledShape { threads_m: 16, threads_n: 16 };
        let narrow = TiledShape { threads_m: 4, threads_n: 2 };
        for shape in [wide, narrow] {
            forms.push(Form::Tiled { shape });
        }
    }
    if let Form::Gemm { .. } = Form::choose(&op, &features, Precision::Int8) {
        forms.extend(gemm_forms(product, features));
    }
    forms
}

#[test]
fn every_type_at_every_number_of_tokens() {
    let device = device();
    for dtype in TYPES {
        for n_tokens in (1..=9).chain([17, 64]) {
            let product = plain(dtype, [70, 512], n_tokens);
            for form in forms(&device, product) {
                check(&device, product, form, 70);
            }
        }
    }
}

/// Models of all sizes: widths that fill no tile, low ranks, rows that start between two vectors.
#[test]
fn odd_sizes() {
    let device = device();
    let floats = [DType::F32, DType::F16, DType::BF16];
    let float_cols = [8, 10, 24, 40, 64, 192, 321];
    let quantized =
        [(DType::Q8_0, 96), (DType::Q8_0, 320), (DType::Q4_K, 768), (DType::Q5_K, 256), (DType::Q6_K, 2560)];
    let shapes = floats.into_iter().flat_map(|dtype| float_cols.map(|cols| (dtype, cols))).chain(quantized);
    for (dtype, n_cols) in shapes {
        for (n_rows, n_tokens) in [(33, 1), (37, 3), (130, 20)] {
            let product = plain(dtype, [n_rows, n_cols], n_tokens);
            for form in forms(&device, product) {
                check(&device, product, form, n_rows);
            }
        }
    }
}

#[test]
fn epilogues_and_row_ranges() {
    let device = device();
    for activation in Activation::ALL {
        for (bias, residual) in [(true, true), (true, false), (false, true)] {
            for n_tokens in [1, 5, 12] {
                let product = Product { bias, activation, residual, ..plain(DType::Q8_0, [75, 64], n_tokens) };
                for form in forms(&device, product) {
                    for split_rows in [75, 32] {
                        check(&device, product, form, split_rows);
                    }
                }
            }
        }
    }
}

/// The kernels of prompts with plain arithmetic in place of cooperative matrices: weights decoded on their way or expanded, rows
/// and columns that fill no tile, columns shared among workgroups, and what follows the product.
#[test]
fn plain_matrices() {
    let device = device();
    let features = Features { matrices: Some(Matrices::Plain), ..device.features() };
    assert!(features.f16, "these tests need a device with 16-bit floats");
    let form = |product: Product, n_tokens: u32, decodes: bool, n_splits: u32| {
        let shape = GemmShape::choose([product.n_rows, product.n_cols], n_tokens, decodes, &features).unwrap();
        Form::Gemm { shape: shape.split(product.n_cols, n_splits) }
    };
    for dtype in TYPES {
        let product = Product { bias: true, residual: true, ..plain(dtype, [70, 512], 20) };
        for (decodes, n_splits) in [(true, 1), (false, 3)] {
            check_with(&device, features, product, form(product, 32, decodes, n_splits), 70);
        }
    }
    for (n_rows, n_tokens) in [(64, 9), (130, 64), (256, 130)] {
        let activation = Activation::ReluSquared;
        let product = Product { activation, sparse: n_rows != 130, ..plain(DType::F16, [n_rows, 512], n_tokens) };
        let form = form(product, n_tokens.next_power_of_two() as u32, false, 1);
        check_with(&device, features, product, form, n_rows);
    }
}

fn is_in_panels(dtype: DType) -> bool {
    let product = Product { sparse: true, ..plain(dtype, [16, 256], 1) };
    Problem::new(product).layout().panel_len > 1
}

/// Matrices in panels: inputs of which few or none are zero are computed as well, and by forms that leave nothing out, too.
#[test]
fn panels() {
    let device = device();
    if !reads_panels(&device.features()) {
        return;
    }
    // The last shape's columns are more than a list holds, if eight tokens have nine of ten zeros each.
    let shapes = [1, 2, 3, 5, 8, 9, 64].map(|n_tokens| ([96, 1024], n_tokens)).into_iter().chain([([16, 4096], 8)]);
    for (dtype, (shape, n_tokens)) in shapes.flat_map(|shape| TYPES.map(|dtype| (dtype, shape))) {
        if !is_in_panels(dtype) {
            continue;
        }
        let product = Product { sparse: true, residual: true, ..plain(dtype, shape, n_tokens) };
        let forms = forms(&device, product);
        assert_eq!(forms.iter().any(|form| matches!(form, Form::Sparse { .. })), n_tokens <= 8, "{forms:?}");
        for form in forms {
            for split_rows in [shape[0], 40] {
                check(&device, product, form, split_rows);
            }
        }
    }
}

/// More workgroups than one dimension of a grid can have.
#[test]
fn many_rows() {
    let device = device();
    let product = plain(DType::F16, [70_000, 16], 1);
    let shape = VecShape { workgroup: 32, n_lanes: 32, in_subgroup: false, subgroup_len: 0 };
    check(&device, product, Form::VecF32 { shape }, 70_000);
}

/// Kernels that no device of these tests may run are still valid.
#[test]
fn every_form_is_valid() {
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    let features = large_device();
    let gemm = gemm_forms(plain(DType::F16, [32, 512], 256), features);
    let vec = [false, true].map(|in_subgroup| Form::VecInt8 {
        shape: VecShape { workgroup: 128, n_lanes: 32, in_subgroup, subgroup_len: 32 },
    });
    let tiled = [Form::Tiled { shape: TiledShape { threads_m: 16, threads_n: 16 } }];
    let held = HeldShape { span: 16, at_once: 8, n_rows: 32 };
    let held = [Form::Held { shape: held }];
    let sparse = [Form::Sparse { shape: SparseShape { workgroup: 256 } }];
    let forms: Vec<Form> = gemm.into_iter().chain(vec).chain(held).chain(sparse).chain(tiled).collect();
    // Whether a matrix that lies in panels, or by rows, has such a kernel.
    let is_for = |form: &Form, dtype: DType, in_panels: bool| match form {
        Form::VecInt8 { .. } => dtype.is_quantized() && !in_panels,
        Form::VecF32 { .. } | Form::Held { .. } => !in_panels,
        Form::Sparse { .. } => in_panels,
        Form::Gemm { shape } => !(in_panels && shape.decodes && dtype == DType::F16),
        Form::Tiled { .. } => true,
    };
    for (dtype, in_panels) in TYPES.into_iter().flat_map(|dtype| [(dtype, false), (dtype, true)]) {
        let problem = Problem::new(Product { sparse: in_panels, ..plain(dtype, [32, 512], 8) });
        if (problem.layout().panel_len > 1) != in_panels {
            continue;
        }
        let splits = std::slice::from_ref(&(0..32));
        let weights = WeightLayout::new(problem.plan(), &problem.kinds(), 1 << 20, 256);
        let sharing = Sharing::Nothing { n_rows: [1, 0], in_bytes: false };
        let target = target(&features, &weights, Precision::Int8, [RowClass(8), RowClass(0)], false);
        let units = fuse::units(problem.plan(), &target.unfused(), &RULES);
        let schedule = Schedule::new(problem.plan(), units, sharing);
        let lowering = Lowering { plan: problem.plan(), weights: &weights, schedule: &schedule, target };
        for &form in forms.iter().filter(|form| is_for(form, dtype, in_panels)) {
            for dispatch in lower_as(&problem.op(splits), form, &lowering).unwrap() {
                let text = dispatch.kernel.source();
                let module =
                    naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
                let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
                let info = validator.validate(&module).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
                let constants =
                    dispatch.kernel.constants.iter().map(|&(name, value)| (name.to_string(), value)).collect();
                let main = Some((naga::ShaderStage::Compute, "main"));
                let (module, info) =
                    naga::back::pipeline_constants::process_overrides(&module, &info, main, &constants).unwrap();
                let options = naga::back::spv::Options { lang_version: (1, 6), ..Default::default() };
                naga::back::spv::write_vec(&module, &info, &options, None).unwrap();
            }
        }
    }
}

/// A row as the device has it, put back into the file's order.
fn unpack(dtype: DType, row: &[u8], n_cols: usize) -> Vec<u8> {
    let n_blocks = n_cols / dtype.block_len();
    let (body, scale_at) = match dtype {
        DType::Q8_0 => (32, 0),
        DType::Q6_K => (208, 208),
        _ => return row[..dtype.row_n_bytes(n_cols).unwrap()].to_vec(),
    };
    let (bodies, scales) = row.split_at(body * n_blocks);
    let blocks = bodies.chunks_exact(body).zip(scales.chunks_exact(2));
    blocks.flat_map(|(b, s)| [&b[..scale_at], s, &b[scale_at..]].concat()).collect()
}

#[test]
fn layouts_keep_the_values() {
    for dtype in DType::ALL {
        for n_cols in [256, 768, 2560] {
            let problem = Problem::new(plain(dtype, [3, n_cols], 1));
            let (matrix, layout) = (problem.matrix(), problem.layout());
            assert_eq!(layout.dtype, kept(dtype).on_device.dtype);
            assert_eq!(layout.row_n_bytes % 16, 0);
            let mut rows = vec![0xaa; 2 * layout.row_n_bytes];
            layout.repack(matrix, 1..3, &mut rows);
            assert!(!layout.is_verbatim() || rows == matrix.bytes()[matrix.row_n_bytes()..]);
            for (i, row) in rows.chunks_exact(layout.row_n_bytes).enumerate() {
                let (mut actual, mut expected) = (vec![f32::NAN; n_cols], vec![f32::NAN; n_cols]);
                dequantize(layout.dtype, &unpack(layout.dtype, row, n_cols), &mut actual);
                dequantize(dtype, matrix.row(i + 1), &mut expected);
                match dtype {
                    // Rounded to F16, or their scales are.
                    DType::Q4_1 | DType::Q5_1 | DType::Q2_K | DType::IQ4_XS => {
                        for (a, e) in actual.iter().zip(&expected) {
                            assert!((a - e).abs() <= e.abs() / 2048.0 + 1e-7, "{dtype}: {e} became {a}");
                        }
                    }
                    _ => assert_eq!(actual, expected, "{dtype}"),
                }
            }
        }
    }
}

/// Also of types that become halves on the device.
#[test]
fn panels_have_the_columns_of_16_rows_together() {
    for dtype in [DType::F16, DType::Q4_1] {
        let problem = Problem::new(Product { sparse: true, ..plain(dtype, [64, 512], 1) });
        let (matrix, layout) = (problem.matrix(), problem.layout());
        assert_eq!((layout.dtype, layout.panel_len, layout.is_verbatim()), (DType::F16, 16, false));
        let by_rows = Problem::new(plain(dtype, [64, 512], 1)).layout();
        let (mut panels, mut rows) = (vec![0xaa; 32 * layout.row_n_bytes], vec![0xaa; 32 * layout.row_n_bytes]);
        layout.repack(matrix, 16..48, &mut panels);
        by_rows.repack(matrix, 16..48, &mut rows);
        for (at, half) in panels.as_chunks::<2>().0.iter().enumerate() {
            let (panel, column, row) = (at / (16 * 512), at / 16 % 512, at % 16);
            assert_eq!(*half, rows.as_chunks::<2>().0[(16 * panel + row) * 512 + column], "{dtype} {at}");
        }
    }
}

#[test]
fn floats_are_padded_with_zeros() {
    for (dtype, n_cols) in [(DType::F32, 10), (DType::F16, 24), (DType::BF16, 1)] {
        let problem = Problem::new(plain(dtype, [2, n_cols], 1));
        let (matrix, layout) = (problem.matrix(), problem.layout());
        assert!(!layout.is_verbatim());
        let mut rows = vec![0xaa; 2 * layout.row_n_bytes];
        layout.repack(matrix, 0..2, &mut rows);
        for (i, row) in rows.chunks_exact(layout.row_n_bytes).enumerate() {
            let (data, padding) = row.split_at(matrix.row_n_bytes());
            assert_eq!(data, matrix.row(i));
            assert!(padding.iter().all(|&byte| byte == 0));
        }
    }
}
