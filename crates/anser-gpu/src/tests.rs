//! Schedules and kernels, checked without a device. Every kernel that lowering can ask for parses, is valid, has the
//! bindings that are declared for it, and can be written for Vulkan, Metal and Direct3D.

use crate::compile::choices::Choices;
use crate::compile::dispatch::{Binding, Dispatch};
use crate::compile::fuse;
use crate::compile::lowering::Lowering;
use crate::compile::rule::Unit;
use crate::compile::schedule::{Cell, Region, Schedule};
use crate::compile::target::{Precision, RowClass, Target};
use crate::compile::waves::reads_ahead;
use crate::device::features::{Features, Matrices};
use crate::device::kernel::{Access, KernelSpec};
use crate::kernels::matmul::reads_panels;
use crate::kernels::sample::all_kernels;
use crate::kernels::{RULES, target};
use crate::memory::layout::{MatrixKinds, WeightLayout};
use anser_format::ModelFile;
use anser_model::{Plan, ValueId, cases};
use naga::back::{PipelineConstants, hlsl, msl, pipeline_constants::process_overrides, spv};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Devices of all kinds: without and with f16, subgroups of several sizes, and cooperative matrices.
pub(crate) fn devices() -> Vec<Features> {
    let plain = Features {
        f16: false,
        subgroups: false,
        subgroup_size: [4, 128],
        matrices: None,
        n_cores: 16,
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
        Features { f16: true, matrices: Some(Matrices::Plain), max_workgroup_n_bytes: 32 << 10, ..subgroups(64, 64) },
        large_device(),
    ]
}

/// One with all features.
pub(crate) fn large_device() -> Features {
    Features {
        f16: true,
        subgroups: true,
        subgroup_size: [32, 32],
        matrices: Some(Matrices::Cooperative),
        n_cores: 132,
        max_bindings: 32,
        max_workgroup_len: 1024,
        max_workgroup_n_bytes: 48 << 10,
    }
}

/// Whole models and every operation on its own.
fn plans() -> Vec<Arc<Plan>> {
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tiny/");
    let model = |name: &str| {
        let file = ModelFile::open(format!("{tiny}{name}")).unwrap();
        Arc::new(anser_model::load(&file).unwrap().1)
    };
    let models = ["tiny-v7.st", "tiny-v7c256-q4_0.gguf", "tiny-v7n32.st", "../unpacked/formats/m6.pth"].map(model);
    models.into_iter().chain(cases::all().into_iter().map(|case| case.plan)).collect()
}

/// How the weights of `plan` lie on a device with `features`.
fn layout(plan: &Plan, features: Features, max_buffer_n_bytes: u64) -> WeightLayout {
    WeightLayout::new(plan, &MatrixKinds::of(plan, reads_panels(&features)), max_buffer_n_bytes, 256)
}

/// Steps of all kinds.
fn targets(features: &Features, weights: &WeightLayout) -> Vec<Target> {
    let mut targets = vec![];
    for precision in [Precision::Exact, Precision::Int8] {
        for class in [1, 3, 8, 9, 100, 1000].map(RowClass::of) {
            for one_token_each in [true, false] {
                let target = target(features, weights, precision, [class, RowClass(1)], one_token_each);
                targets.extend([target, target.unfused()]);
            }
        }
    }
    targets
}

/// The schedule of a plan.
fn schedule(plan: &Plan, target: &Target) -> Schedule {
    Schedule::for_target(plan, target, &RULES)
}

/// The dispatches of a plan.
fn dispatches(plan: &Plan, weights: &WeightLayout, schedule: &Schedule, target: Target) -> Vec<Dispatch> {
    trial(plan, weights, schedule, target, 0)
}

/// The dispatches of a plan whose kernels run in the candidate of this number, where there are several.
fn trial(plan: &Plan, weights: &WeightLayout, schedule: &Schedule, target: Target, number: usize) -> Vec<Dispatch> {
    let lowering = Lowering { plan, weights, schedule, target, choices: Choices::Trial(number) };
    lowering.dispatches().unwrap().into_iter().map(|(_, dispatch)| dispatch).collect()
}

/// The most candidates that any of the kernels has for its shape.
fn max_candidates(dispatches: &[Dispatch]) -> usize {
    dispatches
        .iter()
        .map(|dispatch| dispatch.choice.as_ref().map_or(1, |choice| choice.n_candidates))
        .max()
        .unwrap_or(1)
}

/// The distinct kernels of all plans on all devices, by a readable key.
fn kernels() -> BTreeMap<String, KernelSpec> {
    let mut kernels = BTreeMap::new();
    for plan in plans() {
        for features in devices() {
            let weights = layout(&plan, features, 128 << 20);
            for kernel in all_kernels(&plan, &features) {
                kernels.insert(key(&kernel), kernel);
            }
            for target in targets(&features, &weights) {
                let schedule = schedule(&plan, &target);
                for number in 0..max_candidates(&dispatches(&plan, &weights, &schedule, target)) {
                    for dispatch in trial(&plan, &weights, &schedule, target, number) {
                        kernels.insert(key(&dispatch.kernel), dispatch.kernel);
                    }
                }
            }
        }
    }
    kernels
}

/// What tells kernels apart, readable: all but where their operands lie.
fn key(kernel: &KernelSpec) -> String {
    let modules: Vec<_> = kernel.modules.iter().map(|module| module.name).collect();
    format!("{} {modules:?} {:?}", kernel.label, kernel.constants)
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
    let source = spec.source();
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
    eprintln!("{} kernels", kernels.len());
    for (key, spec) in &kernels {
        check(key, spec);
    }
    let labels = ["layer_norm", "token_shift", "value_residual", "key_control", "wkv7", "norm_bonus_gate", "select"];
    for label in labels.into_iter().chain([
        "norm_shift",
        "head",
        "head6",
        "mixes",
        "embed",
        "scan",
        "argmax",
        "weigh",
        "choose",
        "sparse_F16",
    ]) {
        assert!(kernels.values().any(|k| k.label == label), "{label} was not lowered");
    }
}

/// Writes the kernels to a folder, for `scripts/check-tint`: texts, and a list of their constants and bindings. Of the kernels with
/// the same files it takes some that differ in the rest.
#[test]
#[ignore = "writes files, for scripts/check-tint"]
fn write_kernels() {
    /// Kernels with the same files.
    const MAX_ALIKE: usize = 3;

    let folder = std::env::var("ANSER_KERNELS_TO").expect("ANSER_KERNELS_TO names a folder");
    let mut alike: HashMap<Vec<&str>, usize> = HashMap::new();
    let mut list = vec![];
    // Browsers have no cooperative matrices, and devices there never report them.
    let is_for_browsers = |kernel: &&KernelSpec| !kernel.modules.iter().any(|module| module.name == "enable/coop.wgsl");
    for kernel in kernels().values().filter(is_for_browsers) {
        let n = alike.entry(kernel.modules.iter().map(|module| module.name).collect()).or_default();
        *n += 1;
        if *n > MAX_ALIKE {
            continue;
        }
        let file = format!("{}-{}.wgsl", kernel.label, list.len());
        std::fs::write(format!("{folder}/{file}"), kernel.source()).unwrap();
        let access: Vec<String> = kernel.access.iter().map(|access| format!("{access:?}")).collect();
        let constants: BTreeMap<&str, f64> = kernel.constants.iter().copied().collect();
        list.push(serde_json::json!({
            "file": file, "label": kernel.label, "entry": "main", "constants": constants, "access": access,
        }));
    }
    std::fs::write(format!("{folder}/kernels.json"), serde_json::to_string_pretty(&list).unwrap()).unwrap();
}

/// A browser's compiler wants to be told of subgroups, and must not be told of them where the device has none.
#[test]
fn kernels_that_use_subgroups_are_known() {
    let mut n_found = 0;
    for (key, kernel) in kernels() {
        let text = kernel.source();
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        let is_operation = |rest: &str| rest.starts_with(|c: char| c.is_ascii_uppercase());
        let uses = code.flat_map(|line| line.split("subgroup").skip(1).map(str::to_owned).collect::<Vec<_>>());
        let uses =
            uses.into_iter().any(|rest| is_operation(&rest) || rest.starts_with("_id") || rest.starts_with("_size"));
        assert_eq!(kernel.uses_subgroups(), uses, "{key}");
        n_found += usize::from(uses);
    }
    assert!(n_found > 100, "{n_found}");
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
            let in_halves = matches!(cell.region, Region::Shared { in_halves: true, .. });
            let is_there = in_halves || cell.floats.is_some() || cell.bytes.is_some();
            assert!(is_there, "{name} reads {}", plan.value(*id).name);
        }
        for &id in &unit.outputs {
            let cell = schedule.cell(id).unwrap();
            if let Region::Shared { rows, n_cols, .. } = cell.region {
                assert_eq!((rows, n_cols), (plan.value(id).rows, plan.value(id).n_cols));
            }
            // One dispatch cannot read and write a buffer.
            let reads = |input: &ValueId| schedule.cell(*input).map(|input| input.region) == Some(cell.region);
            assert!(!inputs.iter().any(reads), "{name} overwrites its input");
            let others = unit.outputs.iter().copied().filter(|other| *other != id);
            for (other_id, other) in others.filter_map(|other| Some((other, schedule.cell(other)?))) {
                let overlap = spans(plan, id, cell).iter().any(|a| {
                    spans(plan, other_id, other)
                        .iter()
                        .any(|b| a.0 == b.0 && a.1.start < b.1.end && b.1.start < a.1.end)
                });
                assert!(!overlap, "{name}: {} lies at {cell:?}, another result at {other:?}", plan.value(id).name);
            }
            memory.insert(cell, id);
        }
        n_nodes += unit.nodes.len();
    }
    assert_eq!(n_nodes, plan.nodes.len());
}

/// The bytes of a value of one row.
fn spans(plan: &Plan, id: ValueId, cell: Cell) -> Vec<(Region, std::ops::Range<u64>)> {
    let n_cols = plan.value(id).n_cols as u64;
    let floats = cell.floats.map(|at| at..at + 4 * n_cols);
    let bytes = cell.bytes.map(|[bytes, scales]| [bytes..bytes + n_cols, scales..scales + n_cols / 2]);
    floats.into_iter().chain(bytes.into_iter().flatten()).map(|span| (cell.region, span)).collect()
}

#[test]
fn schedules_keep_values_until_they_are_read() {
    for plan in plans() {
        for features in devices() {
            let weights = layout(&plan, features, 128 << 20);
            for target in targets(&features, &weights) {
                check_memory(&plan, &schedule(&plan, &target));
            }
        }
    }
}

/// The dispatches of a step of one token.
fn decoding(plan: &Plan, features: Features, precision: Precision) -> (Schedule, Vec<Dispatch>) {
    let weights = layout(plan, features, 128 << 20);
    let target = target(&features, &weights, precision, [RowClass(1), RowClass(1)], true);
    let schedule = schedule(plan, &target);
    let dispatches = dispatches(plan, &weights, &schedule, target);
    (schedule, dispatches)
}

#[test]
fn what_is_read_was_waited_for() {
    let plan = &plans()[0];
    let (schedule, dispatches) = decoding(plan, devices()[0], Precision::Int8);
    let ahead = reads_ahead(&dispatches, &schedule);
    // What a kernel reads and another one wrote has become readable in between.
    let region = |binding: &Binding| match binding {
        Binding::Value(id) | Binding::Region(id) => schedule.cell(*id).map(|cell| cell.region),
        _ => None,
    };
    let mut unsettled = vec![];
    for (dispatch, ahead) in dispatches.iter().zip(&ahead) {
        unsettled.retain(|settled| !ahead.iter().any(|binding| region(binding).as_ref() == Some(settled)));
        for (access, binding) in dispatch.kernel.access.iter().zip(&dispatch.bindings) {
            let Some(region) = region(binding) else { continue };
            assert!(*access != Access::Read || !unsettled.contains(&region), "{}: {binding:?}", dispatch.kernel.label);
            if *access == Access::ReadWrite {
                unsettled.push(region);
            }
        }
    }
}

/// Also where a matrix lies in many row ranges, and each of them takes several kernels.
#[test]
fn what_was_made_is_read_before_it_is_made_anew() {
    let mut n_made_anew = 0;
    for plan in &plans()[..3] {
        for features in devices() {
            let weights = layout(plan, features, 70_000);
            for target in targets(&features, &weights) {
                let mut was_read = HashMap::new();
                for dispatch in dispatches(plan, &weights, &schedule(plan, &target), target) {
                    for (access, binding) in dispatch.kernel.access.iter().zip(&dispatch.bindings) {
                        if !matches!(binding, Binding::Scratch { .. } | Binding::Expanded { .. }) {
                            continue;
                        }
                        let is_read = *access == Access::Read;
                        match was_read.insert(format!("{binding:?}"), is_read) {
                            Some(was_read) if !is_read => {
                                assert!(was_read, "{}: {binding:?}", dispatch.kernel.label);
                                n_made_anew += 1;
                            }
                            Some(_) => {}
                            None => assert!(!is_read, "{}: {binding:?}", dispatch.kernel.label),
                        }
                    }
                }
            }
        }
    }
    assert!(n_made_anew > 0);
}

#[test]
fn a_layer_takes_few_dispatches() {
    // Norm and shift, projections, head, output, norm and shift, key, value; quantized products make what they read.
    for (plan, of_layer) in plans().iter().zip([7, 5, 7]) {
        for precision in [Precision::Exact, Precision::Int8] {
            let (_, dispatches) = decoding(plan, devices()[5], precision);
            // Besides the layers: ln0, ln_out of the rows that are wanted, and the head.
            assert_eq!(dispatches.len(), of_layer * plan.state.n_layer + 3, "{} {precision:?}", plan.title);
        }
    }
}

#[test]
fn a_layer_takes_few_units() {
    let plan = &plans()[0];
    let features = Features { max_bindings: 16, ..devices()[0] };
    let weights = layout(plan, features, 128 << 20);
    let units = |one_token_each| {
        let classes = [RowClass(2), RowClass(1)];
        fuse::units(plan, &target(&features, &weights, Precision::Int8, classes, one_token_each), &RULES)
    };
    let of_layer = |units: Vec<Unit>| units.iter().filter(|unit| unit.name(plan).contains("blocks.1.")).count();
    // norm and shift, products, head, output, norm and shift, key, value
    assert_eq!(of_layer(units(true)), 7);
    // instead of the head: products, value residual, key control, recurrence, norm and gate
    assert_eq!(of_layer(units(false)), 11);
}
