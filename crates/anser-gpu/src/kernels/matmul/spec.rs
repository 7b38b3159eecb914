//! The kernels of products as [`KernelSpec`]s.

use super::gemm::GemmShape;
use super::held::HeldShape;
use super::lanes::VecShape;
use super::sparse::SparseShape;
use super::tiled::TiledShape;
use super::{MatMul, epilogue_word};
use crate::device::features::Matrices;
use crate::device::kernel::{Access, KernelSpec, Module, wgsl};
use crate::quant::{DeviceType, PANEL_LEN, kept};
use anser_format::DType;
use anser_model::Rows;

/// The kernel that multiplies `op`'s matrix, or a row range of it, by tiles.
///
/// Bindings: weights, input, bias, residual, out, step, target rows.
pub(super) fn tiled(op: &MatMul, shape: TiledShape) -> KernelSpec {
    let device_type = op.layout.device_type();
    let is_in_panels = op.layout.panel_len == PANEL_LEN;
    let mut modules = vec![wgsl!("step.wgsl"), wgsl!("weight/words.wgsl")];
    modules.extend(if is_in_panels { PANEL_MODULES } else { device_type.modules });
    modules.extend([wgsl!("matmul/epilogue_uniform.wgsl"), wgsl!("matmul/activation.wgsl")]);
    modules.extend([wgsl!("matmul/epilogue.wgsl"), input_module(op.n_cols)]);
    modules.push(wgsl!("matmul/tile_f32.wgsl"));
    modules.push(match is_in_panels {
        true => wgsl!("matmul/tile_panels.wgsl"),
        false => wgsl!("matmul/tile_rows.wgsl"),
    });
    modules.push(wgsl!("matmul/tiled.wgsl"));
    use Access::{Read, ReadWrite, Uniform};
    KernelSpec::new(device_type.labels.tiled, modules)
        .constant("N_COLS", op.n_cols as f64)
        .constant("OUTPUTS", f64::from(op.rows == Rows::Outputs))
        .constant("THREADS_M", f64::from(shape.threads_m))
        .constant("THREADS_N", f64::from(shape.threads_n))
        .access(&[Read, Read, Read, Read, ReadWrite, Uniform, Uniform])
}

/// The kernel that multiplies `op`'s matrix, or a row range of it, by cooperative matrices.
///
/// Bindings: weights, input in halves, bias, residual, out or sums, step, target rows.
pub(super) fn gemm(op: &MatMul, shape: GemmShape, matrices: Matrices) -> KernelSpec {
    let [enable, of_matrices, indirect, direct, sums] = match matrices {
        Matrices::Cooperative => [
            wgsl!("enable/coop.wgsl"),
            wgsl!("gemm/matrices_cooperative.wgsl"),
            wgsl!("gemm/indirect.wgsl"),
            wgsl!("gemm/direct.wgsl"),
            wgsl!("gemm/sums_cooperative.wgsl"),
        ],
        Matrices::Plain => [
            wgsl!("enable/f16.wgsl"),
            wgsl!("gemm/matrices_plain.wgsl"),
            wgsl!("gemm/indirect_plain.wgsl"),
            wgsl!("gemm/indirect_plain.wgsl"),
            wgsl!("gemm/sums_plain.wgsl"),
        ],
    };
    let mut modules = vec![enable, wgsl!("step.wgsl"), wgsl!("halves.wgsl"), of_matrices];
    modules.extend([wgsl!("matmul/epilogue_constant.wgsl"), wgsl!("matmul/activation.wgsl")]);
    modules.push(wgsl!("matmul/epilogue.wgsl"));
    match (shape.decodes, op.layout.panel_len) {
        (true, _) => {
            modules.push(wgsl!("weight/words.wgsl"));
            modules.extend(op.layout.device_type().modules);
            modules.extend([wgsl!("gemm/weights_units.wgsl"), wgsl!("gemm/tile_rows.wgsl")]);
        }
        (false, PANEL_LEN) => modules.extend([wgsl!("weight/piece.wgsl"), wgsl!("gemm/weights_panels.wgsl")]),
        (false, _) => {
            let weights = [wgsl!("weight/piece.wgsl"), wgsl!("gemm/weights_halves.wgsl"), wgsl!("gemm/tile_rows.wgsl")];
            modules.extend(weights);
        }
    }
    match (shape.n_splits > 1, op.in_halves[1]) {
        (true, _) => modules.extend([wgsl!("gemm/out_sums.wgsl"), sums]),
        (false, false) => modules.extend([wgsl!("gemm/out_floats.wgsl"), direct]),
        (false, true) => modules.extend([wgsl!("gemm/out_halves.wgsl"), indirect]),
    }
    if shape.n_splits == 1 {
        modules.extend([wgsl!("gemm/out_rows.wgsl"), wgsl!("gemm/out_product.wgsl")]);
    }
    modules.push(wgsl!("gemm/gemm.wgsl"));
    let access = [Access::Read, Access::Read, Access::Read, Access::Read, Access::ReadWrite];
    let constants = [
        ("SUBGROUP_LEN", shape.subgroup_len),
        ("SUBGROUPS_M", shape.subgroups[0]),
        ("SUBGROUPS_N", shape.subgroups[1]),
        ("FRAGMENTS_M", shape.fragments[0]),
        ("FRAGMENTS_N", shape.fragments[1]),
        ("K_STEP", shape.k_step),
        ("N_SPLITS", shape.n_splits),
        ("EPILOGUE", if shape.n_splits > 1 { 0 } else { epilogue_word(op) }),
        ("OUTPUTS", u32::from(op.rows == Rows::Outputs)),
    ];
    let kernel = KernelSpec::new(op.layout.device_type().labels.gemm, modules).constant("N_COLS", op.n_cols as f64);
    let kernel = constants.into_iter().fold(kernel, |kernel, (name, value)| kernel.constant(name, f64::from(value)));
    kernel.access(&[&access[..], &[Access::Uniform; 2]].concat())
}

/// The kernel that adds up the sums of workgroups which share columns.
///
/// Bindings: sums, sizes, bias, residual, out, step, target rows.
pub(super) fn sum(op: &MatMul) -> KernelSpec {
    let mut modules = vec![wgsl!("step.wgsl"), wgsl!("halves.wgsl"), wgsl!("matmul/epilogue_constant.wgsl")];
    modules.extend([wgsl!("matmul/activation.wgsl"), wgsl!("matmul/epilogue.wgsl")]);
    match op.in_halves[1] {
        true => {
            modules.insert(0, wgsl!("enable/f16.wgsl"));
            modules.push(wgsl!("gemm/out_halves.wgsl"));
        }
        false => modules.push(wgsl!("gemm/out_floats.wgsl")),
    }
    modules.extend([wgsl!("gemm/out_rows.wgsl"), wgsl!("gemm/sum.wgsl")]);
    let access = [Access::Read, Access::Uniform, Access::Read, Access::Read, Access::ReadWrite];
    let kernel = KernelSpec::new("sum", modules)
        .constant("OUTPUTS", f64::from(op.rows == Rows::Outputs))
        .constant("EPILOGUE", f64::from(epilogue_word(op)));
    kernel.access(&[&access[..], &[Access::Uniform; 2]].concat())
}

/// The kernel that brings `op`'s matrix, or a row range of it, into halves.
///
/// Bindings: weights, halves, sizes.
pub(super) fn expand(op: &MatMul) -> KernelSpec {
    let weights = op.layout.device_type().modules;
    let modules = [wgsl!("weight/words.wgsl")]
        .into_iter()
        .chain(weights.iter().copied())
        .chain([wgsl!("halves.wgsl"), wgsl!("matmul/expand.wgsl")])
        .collect();
    let kernel = KernelSpec::new("expand", modules).constant("N_COLS", op.n_cols as f64);
    kernel.access(&[Access::Read, Access::ReadWrite, Access::Uniform])
}

/// Where mat-vec kernels have their inputs from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VecInput {
    /// Memory, by vec4s.
    Vec4s,
    /// Memory, number by number.
    Scalars,
    /// A norm and token shift, see `wgsl/matmul/shift.wgsl`.
    Shift,
}

/// Where mat-vec kernels have their jobs from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Jobs {
    /// Constants of the kernel.
    Constants,
    /// A table.
    Table,
}

impl Jobs {
    fn modules(self) -> [&'static Module; 3] {
        let own = match self {
            Jobs::Constants => wgsl!("matmul/job_constants.wgsl"),
            Jobs::Table => wgsl!("matmul/job_table.wgsl"),
        };
        [wgsl!("weight/float_kinds.wgsl"), wgsl!("matmul/jobs.wgsl"), own]
    }
}

impl VecInput {
    fn modules(self) -> Vec<&'static Module> {
        match self {
            VecInput::Vec4s => vec![wgsl!("matmul/operands.wgsl"), wgsl!("matmul/vec_input_vec4.wgsl")],
            VecInput::Scalars => vec![wgsl!("matmul/operands.wgsl"), wgsl!("matmul/vec_input_scalar.wgsl")],
            VecInput::Shift => vec![wgsl!("matmul/shift.wgsl")],
        }
    }

    /// How the kernel uses each of its bindings.
    fn access(self, jobs: Jobs) -> Vec<Access> {
        use Access::{Read, ReadWrite, Uniform};
        let third = match self {
            VecInput::Vec4s | VecInput::Scalars => Read,
            VecInput::Shift => ReadWrite,
        };
        let mut access = vec![Read, Read, third, Read, Read, ReadWrite, Uniform];
        if jobs == Jobs::Table {
            access.push(Uniform);
        }
        access
    }
}

/// The mat-vec kernel for float weights, if it `has_floats`, and those of type `quantized`, which meet activations in 8 bits if
/// it `reads_bytes`, see `wgsl/matmul/vec.wgsl`.
pub(super) fn vec(
    quantized: Option<&'static DeviceType>,
    [has_floats, reads_bytes]: [bool; 2],
    input: VecInput,
    jobs: Jobs,
    shape: VecShape,
    mut constants: Vec<(&'static str, f64)>,
) -> KernelSpec {
    constants.extend([
        ("WORKGROUP", f64::from(shape.workgroup)),
        ("N_LANES", f64::from(shape.n_lanes)),
        ("HAS_FLOATS", f64::from(has_floats)),
        ("HAS_QUANTIZED", f64::from(quantized.is_some())),
    ]);
    if shape.in_subgroup {
        constants.push(("SUBGROUP_LEN", f64::from(shape.subgroup_len)));
    }
    let mut modules = vec![
        wgsl!("step.wgsl"),
        wgsl!("halves.wgsl"),
        wgsl!("place.wgsl"),
        wgsl!("bytes.wgsl"),
        wgsl!("bytes_out.wgsl"),
    ];
    modules.push(wgsl!("weight/words.wgsl"));
    modules.extend(quantized.map_or(&[wgsl!("weight/piece.wgsl")][..], |device_type| device_type.modules));
    modules.push(wgsl!("matmul/activation.wgsl"));
    modules.extend(jobs.modules());
    modules.extend([wgsl!("matmul/columns.wgsl"), wgsl!("matmul/results.wgsl")]);
    modules.push(match shape.in_subgroup {
        true => wgsl!("lanes/subgroup.wgsl"),
        false => wgsl!("lanes/workgroup.wgsl"),
    });
    modules.extend(input.modules());
    modules.extend([wgsl!("matmul/products_f32.wgsl"), wgsl!("matmul/floats.wgsl"), wgsl!("matmul/vec_floats.wgsl")]);
    match quantized {
        Some(_) => {
            modules.push(match reads_bytes {
                true => wgsl!("matmul/units_bytes.wgsl"),
                false => wgsl!("matmul/units_f32.wgsl"),
            });
            modules.push(wgsl!("matmul/vec_quantized.wgsl"));
        }
        None => modules.push(wgsl!("matmul/vec_not_quantized.wgsl")),
    }
    modules.push(wgsl!("matmul/vec.wgsl"));
    let labels = &quantized.unwrap_or(kept(DType::F16).on_device).labels;
    let label = if reads_bytes { labels.vec_int8 } else { labels.vec_f32 };
    KernelSpec { label, modules, arguments: vec![], constants, access: input.access(jobs) }
}

/// The kernel that holds its inputs, for weights of type `quantized` or else for float ones, see `wgsl/matmul/held.wgsl`.
pub(super) fn held(
    quantized: Option<&'static DeviceType>,
    input: VecInput,
    jobs: Jobs,
    shape: HeldShape,
    mut constants: Vec<(&'static str, f64)>,
) -> KernelSpec {
    let mut modules = vec![
        wgsl!("step.wgsl"),
        wgsl!("halves.wgsl"),
        wgsl!("place.wgsl"),
        wgsl!("bytes.wgsl"),
        wgsl!("bytes_out.wgsl"),
    ];
    modules.push(wgsl!("weight/words.wgsl"));
    let floats = [wgsl!("weight/piece.wgsl"), wgsl!("matmul/floats.wgsl")];
    modules.extend(quantized.map_or(&floats[..], |device_type| device_type.modules));
    modules.push(wgsl!("matmul/activation.wgsl"));
    modules.extend(jobs.modules());
    modules.extend([wgsl!("matmul/columns.wgsl"), wgsl!("matmul/results.wgsl")]);
    modules.extend([wgsl!("lanes/subgroup.wgsl"), wgsl!("lanes/fold.wgsl")]);
    modules.extend(input.modules());
    modules.push(match quantized {
        Some(_) => wgsl!("matmul/held_bytes.wgsl"),
        None => wgsl!("matmul/held_floats.wgsl"),
    });
    modules.push(wgsl!("matmul/held.wgsl"));
    constants.extend([
        ("WORKGROUP", f64::from(shape.workgroup())),
        ("N_LANES", 1.0), // these kernels sum over no lanes
        ("SPAN", f64::from(shape.span)),
        ("ROWS_AT_ONCE", f64::from(shape.at_once)),
    ]);
    KernelSpec {
        label: quantized.unwrap_or(kept(DType::F16).on_device).labels.held,
        modules,
        arguments: vec![],
        constants,
        access: input.access(jobs),
    }
}

/// The kernel that leaves out what meets zeros, for a matrix in panels or a row range of it.
///
/// Bindings: weights, input, bias, residual, out, step, target rows.
pub(super) fn sparse(op: &MatMul, shape: SparseShape) -> KernelSpec {
    let mut modules = vec![wgsl!("step.wgsl"), wgsl!("weight/words.wgsl")];
    modules.extend(PANEL_MODULES);
    modules.extend([wgsl!("matmul/epilogue_uniform.wgsl"), wgsl!("matmul/activation.wgsl")]);
    modules.push(wgsl!("matmul/epilogue.wgsl"));
    modules.extend([wgsl!("lanes/subgroup.wgsl"), wgsl!("lanes/fold.wgsl"), wgsl!("matmul/sparse.wgsl")]);
    use Access::{Read, ReadWrite, Uniform};
    KernelSpec::new(op.layout.device_type().labels.sparse, modules)
        .constant("N_COLS", op.n_cols as f64)
        .constant("OUTPUTS", f64::from(op.rows == Rows::Outputs))
        .constant("COLUMNS", f64::from(op.class.0.max(1)))
        .constant("WORKGROUP", f64::from(shape.workgroup))
        .constant("N_LANES", 1.0) // these kernels sum over no lanes
        .access(&[Read, Read, Read, Read, ReadWrite, Uniform, Uniform])
}

/// The module that reads x `[T, n_cols]`.
pub(super) fn input_module(n_cols: usize) -> &'static Module {
    match n_cols.is_multiple_of(4) {
        true => wgsl!("matmul/input_vec4.wgsl"),
        false => wgsl!("matmul/input_scalar.wgsl"),
    }
}

/// The modules that read weights in panels.
const PANEL_MODULES: &[&Module] = &[wgsl!("weight/piece.wgsl"), wgsl!("weight/panels_f16.wgsl")];
