//! A plan on a device: its weights, its working memory and the states of its sequences. [`super::step`] runs its steps.

use super::buffers::Buffers;
use super::drawing::Sampling;
use super::program::Program;
use super::step::Recording;
use crate::compile::choices::Choices;
use crate::compile::lowering::Lowering;
use crate::compile::schedule::Schedule;
use crate::compile::target::{Precision, RowClass, Target};
use crate::device::features::{Features, Matrices};
use crate::device::kernel::KernelSpec;
use crate::device::pipelines::{Ahead, distinct};
use crate::device::{Device, DeviceKind};
use crate::error::GpuError;
use crate::kernels::matmul::reads_panels;
use crate::kernels::sample::all_kernels;
use crate::kernels::{self, RULES};
use crate::memory::OnProgress;
use crate::memory::layout::WeightLayout;
use crate::memory::state::{SlotId, States};
use crate::memory::weights::{Loading, MemoryLimits, Request};
use anser_model::{Plan, Step};
use std::collections::HashMap;
use std::sync::Arc;

/// How to set up the executor. The default uses all that the device offers.
#[derive(Debug, Clone, Copy, Default)]
pub struct GpuOptions {
    /// Do without 16-bit floats in shaders.
    pub no_f16: bool,
    /// Do without subgroup operations.
    pub no_subgroups: bool,
    /// Do without cooperative matrices.
    pub no_coop_matrix: bool,
    /// Multiply matrices by plain arithmetic in place of cooperative matrices, on any device with 16-bit floats: for tests.
    pub plain_matrices: bool,
    /// Run every operation by itself, for comparisons.
    pub no_fusion: bool,
    /// Multiply quantized weights with activations in 32 bits, and everything else without rounding to 16: slower, and as
    /// close to the formulas as floats are.
    pub exact: bool,
    /// Treat the device as if it could bind no larger buffers; matrices are then split by rows.
    pub max_binding_n_bytes: Option<u64>,
    /// Bytes of the device's memory for weights; those beyond are streamed from the file in every step, with the same
    /// results. `None` means as many as there are. States and the values of a step come on top.
    pub memory: Option<u64>,
    /// Treat the device as if it had no more memory for weights.
    pub device_n_bytes: Option<u64>,
}

impl GpuOptions {
    /// What remains of the device's features.
    fn features(&self, device: &Device) -> Features {
        let found = device.features();
        let f16 = found.f16 && !self.no_f16;
        let can = found.matrices == Some(Matrices::Cooperative) && !self.no_subgroups && !self.no_coop_matrix;
        let plain = self.plain_matrices || found.matrices == Some(Matrices::Plain);
        let subgroups = found.subgroups && !self.no_subgroups;
        Features { f16, subgroups, matrices: Matrices::of(f16, f16 && can, plain), ..found }
    }

    fn precision(&self) -> Precision {
        if self.exact { Precision::Exact } else { Precision::Int8 }
    }

    fn max_binding_n_bytes(&self, device: &Device) -> u64 {
        let found = device.report().max_binding_n_bytes.min(device.report().max_buffer_n_bytes);
        self.max_binding_n_bytes.map_or(found, |wanted| wanted.min(found))
    }

    fn limits(&self, device: &Device) -> MemoryLimits {
        /// What kernels may count on, whatever the device: whole cache lines.
        const ALIGNMENT: u32 = 256;

        let alignment = device.inner.limits().min_storage_buffer_offset_alignment.max(ALIGNMENT).into();
        MemoryLimits {
            max_buffer_n_bytes: self.max_binding_n_bytes(device),
            alignment,
            reads_panels: reads_panels(&self.features(device)),
            budget: self.memory,
            device_n_bytes: self.device_n_bytes,
        }
    }
}

/// A plan ready to run on a device, with its weights, working memory and the states of its sequences.
#[derive(Debug)]
pub struct Gpu {
    pub(crate) plan: Arc<Plan>,
    pub(crate) features: Features,
    pub(crate) precision: Precision,
    pub(crate) fuses: bool,
    /// See [`Gpu::set_trial`].
    pub(crate) trial: Option<usize>,
    pub(crate) weights: Loading,
    pub(crate) states: States,
    pub(crate) buffers: Buffers,
    /// Lowered plans by kind of steps. Whoever replaces buffers that they bind calls [`Gpu::forget_programs`].
    pub(crate) programs: HashMap<Target, Program>,
    /// Where results wait to be read; grows, never shrinks.
    pub(crate) staging: Option<wgpu::Buffer>,
    /// The last step's commands, recorded again for the next one.
    pub(crate) recording: Option<Recording>,
    /// What sequences that draw their own tokens have in common.
    pub(crate) sampling: Sampling,
    /// Last, as fields are dropped in their order: it is closed when nothing of it is in use.
    pub(crate) device: Arc<Device>,
}

/// Where the shapes of kernels come from.
pub(crate) fn choices(device: &Device, trial: Option<usize>) -> Choices<'_> {
    trial.map_or(Choices::Measured(device.tuning()), Choices::Trial)
}

/// Classes of prompts whose kernels are compiled ahead, the likeliest first. They share most of them.
const PROMPT_CLASSES: [u32; 6] = [512, 32, 256, 128, 64, 16];

impl Gpu {
    /// Starts loading the weights of `plan` to `device` and returns: their memory is allocated and they are uploaded in the
    /// background, and steps wait for what they read. Without a limit, if the device has too little memory, as many weights
    /// stay there as it holds. What goes wrong in the background is the error of the next step.
    ///
    /// # Errors
    /// If the device is lost, its memory holds no state, or a limit is too small.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(plan: Arc<Plan>, device: &Arc<Device>, options: GpuOptions) -> Result<Gpu, GpuError> {
        Gpu::load(plan, device, options, None)
    }

    /// [`Gpu::new`]; `on_progress` is called with how far the upload has got, and can end it.
    ///
    /// # Errors
    /// As [`Gpu::new`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(
        plan: Arc<Plan>,
        device: &Arc<Device>,
        options: GpuOptions,
        on_progress: Option<OnProgress>,
    ) -> Result<Gpu, GpuError> {
        pollster::block_on(Gpu::load_async(plan, device, options, on_progress))
    }

    /// [`Gpu::load`], for where nothing may block. A browser has no threads for the background: there it returns when all weights are on
    /// the device, and what goes wrong is its error.
    ///
    /// # Errors
    /// As [`Gpu::new`].
    pub async fn load_async(
        plan: Arc<Plan>,
        device: &Arc<Device>,
        options: GpuOptions,
        on_progress: Option<OnProgress>,
    ) -> Result<Gpu, GpuError> {
        device.check()?;
        let (max_binding_n_bytes, features) = (options.max_binding_n_bytes(device), options.features(device));
        let (fuses, precision) = (!options.no_fusion, options.precision());
        let (limits, lowered, compiler) = (options.limits(device), plan.clone(), device.clone());
        let compile = move |weights: &WeightLayout| {
            let kernels_of = |n_tokens, one_token_each| -> Vec<KernelSpec> {
                let classes = [RowClass(n_tokens), RowClass(1)];
                let target = kernels::target(&features, weights, precision, classes, one_token_each);
                let target = if fuses { target } else { target.unfused() };
                let schedule = &Schedule::for_target(&lowered, &target, &RULES);
                let choices = choices(&compiler, None);
                let lowering = Lowering { plan: &lowered, weights, schedule, target, choices };
                // The step itself returns this error when it is asked for.
                let dispatches = lowering.dispatches().unwrap_or_else(|error| {
                    log::warn!("{error}");
                    vec![]
                });
                dispatches.into_iter().map(|(_, dispatch)| dispatch.kernel).collect()
            };
            // A software device computes on the processor's cores, which the first step needs.
            let later: Vec<KernelSpec> = match compiler.report().kind {
                DeviceKind::Software => vec![],
                _ => {
                    let prompts = PROMPT_CLASSES.into_iter().flat_map(|n| kernels_of(n, false));
                    all_kernels(&lowered, &features).into_iter().chain(prompts).collect()
                }
            };
            let distinct = |specs: &[KernelSpec]| distinct(specs.iter()).into_iter().cloned().collect();
            Ahead::start(&compiler, [distinct(&kernels_of(1, true)), distinct(&later)])
        };
        let request = Request { plan: plan.clone(), device: device.clone(), limits, on_progress };
        let weights = Loading::start(request, compile).await?;
        let states = States::new(&plan, device, max_binding_n_bytes)?;
        let buffers = Buffers::new(&plan, device, max_binding_n_bytes)?;
        let (device, programs, staging, recording) = (device.clone(), HashMap::new(), None, None);
        let sampling = Sampling::default();
        Ok(Gpu {
            plan,
            device,
            features,
            precision,
            fuses,
            trial: None,
            weights,
            states,
            buffers,
            programs,
            staging,
            recording,
            sampling,
        })
    }

    /// Waits until all weights have been sent to the device, or as many as it holds, and are there.
    ///
    /// # Errors
    /// A lost device, or a file that cannot be read or has changed.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait_until_resident(&self) -> Result<(), GpuError> {
        pollster::block_on(self.wait_until_resident_async())
    }

    /// [`Gpu::wait_until_resident`], for where nothing may block.
    pub async fn wait_until_resident_async(&self) -> Result<(), GpuError> {
        self.weights.get()?.residency.wait()?;
        self.device.wait_async().await
    }

    /// Runs each kernel in the shape of this number among its candidates, or in the first if it has fewer; with `None` in the one
    /// that was chosen for the device. For tests and measurements of all of them.
    pub fn set_trial(&mut self, trial: Option<usize>) {
        self.trial = trial;
        self.forget_programs();
    }

    /// The most candidates that a kernel of `step` has for its shape.
    ///
    /// # Errors
    /// As [`Gpu::step`].
    pub fn n_candidates(&mut self, step: &Step) -> Result<usize, GpuError> {
        let target = self.prepare(step)?;
        let each = self.program(target)?.dispatches.iter().filter_map(|dispatch| dispatch.choice.as_ref());
        Ok(each.map(|choice| choice.n_candidates).max().unwrap_or(1))
    }

    /// Bytes that `plan` needs on `device` for its weights and one state.
    ///
    /// # Errors
    /// If the budget is too small.
    pub fn n_bytes_needed(plan: &Plan, device: &Device, options: GpuOptions) -> Result<u64, GpuError> {
        let weights = options.limits(device).n_bytes_needed(plan, &device.report().name)?;
        Ok(weights + 4 * plan.state.len() as u64)
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The device.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// One line for each storage type that the GPU has no kernels for and keeps as another one, and one if weights are
    /// streamed. Waits until memory is allocated for all of them.
    pub fn notices(&self) -> Vec<String> {
        self.weights.get().map_or(vec![], |weights| weights.notices(&self.plan))
    }

    /// Most tokens and outputs of a step.
    pub fn max_rows(&self) -> [usize; 2] {
        self.buffers.max_rows().map(|n| n as usize)
    }

    /// A new slot with a fresh (zero) state.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn create_state(&mut self) -> Result<SlotId, GpuError> {
        let (slot, moved) = self.states.create(&self.device)?;
        if moved {
            self.forget_programs();
        }
        Ok(slot)
    }

    /// Frees a slot. An unknown slot is ignored.
    pub fn drop_state(&mut self, slot: SlotId) {
        self.states.remove(slot);
    }

    /// The state in a slot, in the order of the plan's layout.
    ///
    /// # Errors
    /// An unknown slot, or a lost device.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_state(&mut self, slot: SlotId) -> Result<Vec<f32>, GpuError> {
        pollster::block_on(self.read_state_async(slot))
    }

    /// [`Gpu::read_state`], for where nothing may block.
    pub async fn read_state_async(&mut self, slot: SlotId) -> Result<Vec<f32>, GpuError> {
        self.states.read(&self.device, slot).await
    }

    /// Overwrites the state in a slot.
    ///
    /// # Errors
    /// An unknown slot, numbers that are no state of this model, or a lost device.
    pub fn write_state(&mut self, slot: SlotId, data: &[f32]) -> Result<(), GpuError> {
        self.states.write(&self.device, slot, data)
    }

    /// Copies the state of one slot over that of another, on the device.
    ///
    /// # Errors
    /// An unknown slot, or a lost device.
    pub fn copy_state(&mut self, from: SlotId, to: SlotId) -> Result<(), GpuError> {
        self.states.copy(&self.device, from, to)
    }

    /// Forgets what binds buffers that are replaced.
    pub(crate) fn forget_programs(&mut self) {
        self.programs.clear();
        self.recording = None;
        self.sampling.epoch += 1;
        self.sampling.next = None;
    }
}
