//! Schedules and kernels, checked without a device. Every kernel that lowering can ask for parses, is valid, has the
//! bindings that are declared for it, and can be written for Vulkan, Metal and Direct3D.

use crate::fuse::fuse;
use crate::kernels::{Access, Dispatch, Features, KernelSpec, RowClass};
use crate::lower::{Lowering, fusion};
use crate::matmul::row_class;
use crate::pipelines::source;
use crate::schedule::{Cell, Schedule, Sharing, Unit};
use crate::waves::reads_ahead;
use crate::weights::WeightLayout;
use anser_format::ModelFile;
use anser_model::{Plan, ValueId, cases};
use naga::back::{PipelineConstants, hlsl, msl, pipeline_constants::process_overrides, spv};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Devices of all kinds: without and with f16, subgroups of several sizes, and cooperative matrices.
fn devices() -> Vec<Features> {
    let plain = Features {
        f16: false,
        subgroups: false,
        subgroup_size: [4, 128],
        coop_f16_16: false,
        max_bindings: 9,
        max_workgroup_len: 256,
        max_workgroup_n_bytes: 16 << 10,
    };
    let subgroups = |smallest, largest| Features { subgroups: true, subgroup_size: [smallest, largest], ..plain };
    vec![
        plain,
        Features { f16: true, max_bindings: 12, ..plain },
        subgroups(4, 4),
        Features { max_bindings: 32, ..subgroups(8, 32) },
        Features { f16: true, ..subgroups(64, 64) },
        Features { f16: true, coop_f16_16: true, max_bindings: 32, max_workgroup_len: 1024, ..subgroups(32, 32) },
    ]
}

/// Whole models and every operation on its own.
fn plans() -> Vec<Arc<Plan>> {
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tiny/");
    let model = |name: &str| {
        let file = ModelFile::open(format!("{tiny}{name}")).unwrap();
        Arc::new(anser_model::load(&file).unwrap().1)
    };
    let models = ["tiny-v7.st", "tiny-v7c256-q4_0.gguf", "tiny-v7n32.st"].map(model);
    models.into_iter().chain(cases::all().into_iter().map(|case| case.plan)).collect()
}

/// The distinct kernels of all plans on all devices, by a readable key.
fn kernels() -> BTreeMap<String, KernelSpec> {
    let mut kernels = BTreeMap::new();
    for plan in plans() {
        let weights = WeightLayout::new(&plan, 128 << 20, 256);
        for features in devices() {
            let fused = [true, false].map(|one_token_each| fuse(&plan, fusion(&features, one_token_each)));
            let units: Vec<Unit> = fused.into_iter().chain([Unit::plain(&plan)]).flatten().collect();
            for class in [1, 2, 3, 5, 9, 100, 1000].map(row_class) {
                let lowering = Lowering { plan: &plan, weights: &weights, features, classes: [class, RowClass(1)] };
                for dispatch in units.iter().flat_map(|unit| lowering.unit(unit)) {
                    let modules: Vec<_> = dispatch.kernel.modules.iter().map(|m| m.name).collect();
                    let key = format!("{} {modules:?} {:?}", dispatch.kernel.label, dispatch.kernel.constants);
                    kernels.insert(key, dispatch.kernel);
                }
            }
        }
    }
    kernels
}

/// What each binding of group 0 is declared as.
fn declared_access(module: &naga::Module) -> BTreeMap<u32, Access> {
    let access = |space| match space {
        naga::AddressSpace::Uniform => Some(Access::Uniform),
        naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => {
            Some(Access::ReadWrite)
        }
        naga::AddressSpace::Storage { .. } => Some(Access::Read),
        _ => None,
    };
    let bindings =
        module.global_variables.iter().filter_map(|(_, global)| Some((global.binding?, access(global.space)?)));
    bindings.inspect(|(binding, _)| assert_eq!(binding.group, 0)).map(|(b, access)| (b.binding, access)).collect()
}

fn check(key: &str, spec: &KernelSpec) {
    let source = source(spec);
    let module =
        naga::front::wgsl::parse_str(&source).unwrap_or_else(|e| panic!("{key}: {}", e.emit_to_string(&source)));
    assert!(!module.overrides.is_empty(), "{key}: without an override, pipeline options are ignored on Vulkan");
    let names: Vec<_> = module.entry_points.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["main"], "{key}");
    for (name, _) in &spec.constants {
        let known = module.overrides.iter().any(|(_, o)| o.name.as_deref() == Some(name));
        assert!(known, "{key}: {name} is no override");
    }
    let expected: BTreeMap<u32, Access> = (0..).zip(spec.access.iter().copied()).collect();
    assert_eq!(declared_access(&module), expected, "{key}: bindings");

    let capabilities = Capabilities::SHADER_FLOAT16
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::SUBGROUP
        | Capabilities::COOPERATIVE_MATRIX;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    let info = validator.validate(&module).unwrap_or_else(|e| panic!("{key}: {}", e.emit_to_string(&source)));
    let constants: PipelineConstants = spec.constants.iter().map(|&(name, value)| (name.to_string(), value)).collect();
    let stage = naga::ShaderStage::Compute;
    let (module, info) = process_overrides(&module, &info, Some((stage, "main")), &constants)
        .unwrap_or_else(|e| panic!("{key}: constants: {e}"));

    let options = spv::Options { lang_version: (1, 6), ..spv::Options::default() };
    spv::write_vec(&module, &info, &options, None).unwrap_or_else(|e| panic!("{key}: SPIR-V: {e}"));
    let options = msl::Options { lang_version: (3, 0), fake_missing_bindings: true, ..msl::Options::default() };
    msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())
        .unwrap_or_else(|e| panic!("{key}: MSL: {e}"));
    // Direct3D has no cooperative matrices, and devices there never report them.
    if !spec.modules.iter().any(|m| m.name.contains("coop")) {
        let options = hlsl::Options {
            shader_model: hlsl::ShaderModel::V6_6,
            fake_missing_bindings: true,
            ..hlsl::Options::default()
        };
        let mut text = String::new();
        hlsl::Writer::new(&mut text, &options, &hlsl::PipelineOptions::default())
            .write(&module, &info, None)
            .unwrap_or_else(|e| panic!("{key}: HLSL: {e}"));
    }
}

#[test]
fn every_kernel_is_valid_on_every_backend() {
    let kernels = kernels();
    for (key, spec) in &kernels {
        check(key, spec);
    }
    let labels = ["layer_norm", "token_shift", "value_residual", "key_control", "wkv7", "norm_bonus_gate", "select"];
    for label in labels.into_iter().chain(["norm_shift", "head"]) {
        assert!(kernels.values().any(|k| k.label == label), "{label} was not lowered");
    }
}

/// Runs a schedule on names instead of numbers: every unit must find in memory what it reads, and write elsewhere.
fn check_memory(plan: &Plan, schedule: &Schedule) {
    let is_made = |id| plan.nodes.iter().any(|node| node.op.outputs().contains(&id));
    let inputs = plan.nodes.iter().flat_map(|node| node.op.inputs()).filter(|&id| !is_made(id));
    let mut memory: HashMap<Cell, ValueId> = inputs.map(|id| (schedule.cell(id).unwrap(), id)).collect();
    let mut n_nodes = 0;
    for unit in &schedule.units {
        let name = unit.name(plan);
        let inputs = unit.inputs(plan);
        for id in &inputs {
            let cell = schedule.cell(*id).unwrap();
            assert_eq!(memory.get(&cell), Some(id), "{name} reads {}", plan.value(*id).name);
        }
        for id in unit.outputs(plan) {
            let cell = schedule.cell(id).unwrap();
            assert_eq!((cell.rows, cell.n_cols), (plan.value(id).rows, plan.value(id).n_cols));
            assert!(!inputs.iter().any(|input| schedule.cell(*input) == Some(cell)), "{name} overwrites its input");
            assert!(
                !unit.outputs(plan).iter().any(|other| *other != id && schedule.cell(*other) == Some(cell)),
                "{name}"
            );
            memory.insert(cell, id);
        }
        n_nodes += unit.nodes().len();
    }
    assert_eq!(n_nodes, plan.nodes.len());
}

#[test]
fn schedules_keep_values_until_they_are_read() {
    for plan in plans() {
        for sharing in [Sharing::Layers, Sharing::Nothing([4, 1])] {
            check_memory(&plan, &Schedule::new(&plan, Unit::plain(&plan), sharing));
            for features in devices() {
                for one_token_each in [true, false] {
                    let units = fuse(&plan, fusion(&features, one_token_each));
                    check_memory(&plan, &Schedule::new(&plan, units, sharing));
                }
            }
        }
    }
}

#[test]
fn products_of_a_layer_wait_once() {
    let plan = &plans()[0];
    let features = Features { max_bindings: 16, ..devices()[0] };
    let weights = WeightLayout::new(plan, 128 << 20, 256);
    let lowering = Lowering { plan, weights: &weights, features, classes: [RowClass(1), RowClass(1)] };
    let units = fuse(plan, fusion(&features, true));
    let schedule = Schedule::new(plan, units, Sharing::Nothing([1, 1]));
    let dispatches: Vec<Dispatch> = schedule.units.iter().flat_map(|unit| lowering.unit(unit)).collect();
    let ahead = reads_ahead(&dispatches, &schedule);
    // What a kernel reads and another one wrote has become readable in between.
    let mut unsettled = vec![];
    for (dispatch, ahead) in dispatches.iter().zip(&ahead) {
        unsettled.retain(|binding| !ahead.contains(binding));
        for (access, binding) in dispatch.kernel.access.iter().zip(&dispatch.bindings) {
            assert!(*access != Access::Read || !unsettled.contains(binding), "{}: {binding:?}", dispatch.kernel.label);
            if *access == Access::ReadWrite {
                unsettled.push(*binding);
            }
        }
    }
    // One wave for each of the eight units of three layers, and for ln0, select, ln_out and head; the first waits for
    // nothing.
    assert_eq!(ahead.iter().filter(|bindings| !bindings.is_empty()).count(), 3 * 8 + 4 - 1);
}

#[test]
fn a_layer_takes_few_units() {
    let plan = &plans()[0];
    let features = Features { max_bindings: 16, ..devices()[0] };
    let units = |one_token_each| fuse(plan, fusion(&features, one_token_each));
    let of_layer = |units: Vec<Unit>| units.iter().filter(|unit| unit.name(plan).contains("blocks.1.")).count();
    // norm and shift, products twice, head, output, norm and shift, key, value
    assert_eq!(of_layer(units(true)), 8);
    // instead of the head: value residual, key control, recurrence, norm and gate
    assert_eq!(of_layer(units(false)), 11);
}
