//! What the tests share: the device, and a way to run the same steps on either executor.

use anser_cpu::{Cpu, Mode};
use anser_format::ModelFile;
use anser_gpu::{Device, DeviceChoice, DeviceKind, Gpu, GpuOptions};
use anser_model::{Plan, Step};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

/// The device that all tests share: hardware if there is any.
pub(crate) fn device() -> Arc<Device> {
    static DEVICE: OnceLock<Arc<Device>> = OnceLock::new();
    DEVICE.get_or_init(open).clone()
}

/// A device of its own.
pub(crate) fn open() -> Arc<Device> {
    let adapters = Device::list();
    let hardware = adapters.iter().find(|a| a.kind != DeviceKind::Software);
    let adapter = hardware.or(adapters.first()).expect("these tests need a GPU adapter, if only a software one");
    Device::open(&DeviceChoice::Number(adapter.number)).unwrap()
}

/// Runs the ignored test `name` in a process of its own: this test program again, asked for one test.
pub(crate) fn alone(name: &str) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", name, "--ignored"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// Every combination of features that kernels come in.
pub(crate) fn feature_sets() -> Vec<GpuOptions> {
    let set = |i: u32| GpuOptions {
        no_f16: i & 1 != 0,
        no_subgroups: i & 2 != 0,
        exact: i & 4 != 0,
        ..GpuOptions::default()
    };
    (0..8).map(set).collect()
}

/// Half of [`feature_sets`], for whole models, whose kernels the cases test one by one: every two features are both there, both
/// absent, and one of them alone.
pub(crate) fn pairs_of_features() -> Vec<GpuOptions> {
    let is_even = |set: &GpuOptions| (set.no_f16 ^ set.no_subgroups) == set.exact;
    feature_sets().into_iter().filter(is_even).collect()
}

/// The path of a tiny model's file.
pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny").join(name)
}

/// The plan of a model among the fixtures.
pub(crate) fn load(name: &str) -> Arc<Plan> {
    let file = ModelFile::open(fixture(name)).unwrap();
    Arc::new(anser_model::load(&file).unwrap().1)
}

/// Either executor.
#[allow(clippy::large_enum_variant, reason = "one of each in a test")]
pub(crate) enum Executor {
    Cpu(Cpu),
    Gpu(Box<Gpu>),
}

impl Executor {
    pub(crate) fn reference(plan: &Arc<Plan>) -> Executor {
        let options = anser_cpu::Options { mode: Mode::Reference, ..Default::default() };
        Executor::Cpu(Cpu::new(plan.clone(), options).unwrap())
    }

    pub(crate) fn gpu(plan: &Arc<Plan>, options: GpuOptions) -> Executor {
        Executor::Gpu(Box::new(Gpu::new(plan.clone(), &device(), options).unwrap()))
    }

    pub(crate) fn create_state(&mut self) -> usize {
        match self {
            Executor::Cpu(cpu) => cpu.create_state(),
            Executor::Gpu(gpu) => gpu.create_state().unwrap(),
        }
    }

    pub(crate) fn write_state(&mut self, slot: usize, state: &[f32]) {
        match self {
            Executor::Cpu(cpu) => cpu.state_mut(slot).unwrap().copy_from_slice(state),
            Executor::Gpu(gpu) => gpu.write_state(slot, state).unwrap(),
        }
    }

    pub(crate) fn read_state(&mut self, slot: usize) -> Vec<f32> {
        match self {
            Executor::Cpu(cpu) => cpu.state(slot).unwrap().to_vec(),
            Executor::Gpu(gpu) => gpu.read_state(slot).unwrap(),
        }
    }

    pub(crate) fn step(&mut self, step: &Step) -> Vec<Vec<f32>> {
        match self {
            Executor::Cpu(cpu) => cpu.step(step).unwrap(),
            Executor::Gpu(gpu) => gpu.step(step).unwrap(),
        }
    }
}
