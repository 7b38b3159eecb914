//! Where a model runs, and the executor that runs it there.

use crate::error::Error;
use crate::model::Options;
use crate::sampler::Sampler;
use anser_cpu::{Cpu, SlotId};
use anser_gpu::Drawing;
#[cfg(not(target_arch = "wasm32"))]
use anser_gpu::{DeviceChoice, Gpu, GpuError, GpuOptions};
use anser_model::{Plan, Step};
use std::str::FromStr;
use std::sync::Arc;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::{Mutex, PoisonError, Weak};

/// Where to run a model: `auto`, `cpu`, `gpu`, `gpu:NUMBER` or `gpu:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Device {
    /// The best hardware GPU if there is one and the model fits; else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// A GPU; software adapters only by number or name.
    #[cfg(not(target_arch = "wasm32"))]
    Gpu(DeviceChoice),
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Device, Error> {
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            #[cfg(not(target_arch = "wasm32"))]
            _ if text == "gpu" || text.starts_with("gpu:") => Ok(Device::Gpu(text.parse()?)),
            _ => Err(Error::Option {
                option: "device",
                reason: format!("{text:?} is none of auto, cpu, gpu, gpu:NUMBER, gpu:NAME"),
            }),
        }
    }
}

/// The executor that runs a model's plan.
#[derive(Debug)]
pub(crate) enum Executor {
    Cpu(Box<Cpu>),
    #[cfg(not(target_arch = "wasm32"))]
    Gpu(Box<Gpu>),
}

impl Executor {
    /// Sets up an executor for `plan`, and says which and why.
    pub(crate) fn new(plan: &Arc<Plan>, options: &Options) -> Result<(Executor, String), Error> {
        match &options.device {
            Device::Cpu => Executor::cpu(plan, options, "asked for"),
            #[cfg(target_arch = "wasm32")]
            Device::Auto => Executor::cpu(plan, options, "the only device of this build"),
            #[cfg(not(target_arch = "wasm32"))]
            Device::Auto => match Executor::gpu(plan, options, &DeviceChoice::Auto) {
                Ok(chosen) => Ok(chosen),
                Err(why) => Executor::cpu(plan, options, &why.to_string()),
            },
            #[cfg(not(target_arch = "wasm32"))]
            Device::Gpu(choice) => Ok(Executor::gpu(plan, options, choice)?),
        }
    }

    fn cpu(plan: &Arc<Plan>, options: &Options, why: &str) -> Result<(Executor, String), Error> {
        let mode = if options.exact { anser_cpu::Mode::Exact } else { anser_cpu::Mode::default() };
        let cpu_options = anser_cpu::Options { n_threads: options.n_threads, mode, ..Default::default() };
        let cpu = Cpu::new(plan.clone(), cpu_options)?;
        let line = format!("CPU, {} threads: {why}", cpu.n_threads());
        Ok((Executor::Cpu(Box::new(cpu)), line))
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn gpu(plan: &Arc<Plan>, options: &Options, choice: &DeviceChoice) -> Result<(Executor, String), GpuError> {
        let device = shared_device(choice)?;
        let gpu = Gpu::new(plan.clone(), &device, GpuOptions { exact: options.exact, ..Default::default() })?;
        let line = [vec![device.reason().to_string()], gpu.notices()].concat().join("; ");
        Ok((Executor::Gpu(Box::new(gpu)), line))
    }

    /// How many tokens to give to one step of a long prompt: enough to use a weight that was read many times, few
    /// enough for activations to stay small.
    pub(crate) fn preferred_step_len(&self) -> usize {
        match self {
            Executor::Cpu(_) => 128,
            #[cfg(not(target_arch = "wasm32"))]
            Executor::Gpu(gpu) => gpu.max_rows().into_iter().fold(2048, usize::min),
        }
    }

    pub(crate) fn create_state(&mut self) -> Result<SlotId, Error> {
        match self {
            Executor::Cpu(cpu) => Ok(cpu.create_state()),
            #[cfg(not(target_arch = "wasm32"))]
            Executor::Gpu(gpu) => Ok(gpu.create_state()?),
        }
    }

    pub(crate) fn drop_state(&mut self, slot: SlotId) {
        match self {
            Executor::Cpu(cpu) => cpu.drop_state(slot),
            #[cfg(not(target_arch = "wasm32"))]
            Executor::Gpu(gpu) => gpu.drop_state(slot),
        }
    }

    /// The state in `slot`, in the order of the plan's layout.
    pub(crate) fn read_state(&mut self, slot: SlotId) -> Result<Vec<f32>, Error> {
        match self {
            Executor::Cpu(cpu) => Ok(cpu.state(slot).unwrap_or_default().to_vec()),
            #[cfg(not(target_arch = "wasm32"))]
            Executor::Gpu(gpu) => Ok(gpu.read_state(slot)?),
        }
    }

    /// Overwrites the state in `slot`; `data` has the layout's length.
    pub(crate) fn write_state(&mut self, slot: SlotId, data: &[f32]) -> Result<(), Error> {
        match self {
            Executor::Cpu(cpu) => {
                if let Some(state) = cpu.state_mut(slot) {
                    state.copy_from_slice(data);
                }
                Ok(())
            }
            #[cfg(not(target_arch = "wasm32"))]
            Executor::Gpu(gpu) => Ok(gpu.write_state(slot, data)?),
        }
    }

    /// Copies the state in `from` over that in `to`.
    pub(crate) fn copy_state(&mut self, from: SlotId, to: SlotId) -> Result<(), Error> {
        match self {
            Executor::Cpu(_) => {
                let state = self.read_state(from)?;
                self.write_state(to, &state)
            }
            #[cfg(not(target_arch = "wasm32"))]
            Executor::Gpu(gpu) => Ok(gpu.copy_state(from, to)?),
        }
    }

    pub(crate) fn step(&mut self, step: &Step) -> Result<Vec<Vec<f32>>, Error> {
        match self {
            Executor::Cpu(cpu) => Ok(cpu.step(step)?),
            #[cfg(not(target_arch = "wasm32"))]
            Executor::Gpu(gpu) => Ok(gpu.step(step)?),
        }
    }

    /// Lets the sequence in `slot` draw its own tokens as `sampler` would, the first after it has read `token`; `None` if
    /// that is left to the host.
    #[cfg_attr(target_arch = "wasm32", allow(unused_variables, reason = "only a GPU draws"))]
    pub(crate) fn start_drawing(
        &mut self,
        slot: SlotId,
        token: u32,
        sampler: &Sampler,
    ) -> Result<Option<Drawing>, Error> {
        match self {
            Executor::Cpu(_) => Ok(None),
            #[cfg(not(target_arch = "wasm32"))]
            Executor::Gpu(gpu) => match sampler.on_device() {
                Some(options) => Ok(gpu.start_drawing(slot, token, &options, sampler.shares())?),
                None => Ok(None),
            },
        }
    }

    /// Reads the last token and draws the next one; `None` if none can be drawn. `goes_on`: most likely, the token after
    /// that will be asked for.
    #[cfg_attr(target_arch = "wasm32", allow(unused_variables, reason = "only a GPU draws"))]
    pub(crate) fn draw(&mut self, drawing: &mut Drawing, goes_on: bool) -> Result<Option<u32>, Error> {
        match self {
            Executor::Cpu(_) => Ok(None),
            #[cfg(not(target_arch = "wasm32"))]
            Executor::Gpu(gpu) => Ok(gpu.draw(drawing, goes_on)?),
        }
    }

    /// Ends the drawing; returns the logits of the last token read, if a token was drawn from them.
    #[cfg_attr(target_arch = "wasm32", allow(unused_variables, reason = "only a GPU draws"))]
    pub(crate) fn finish_drawing(&mut self, drawing: Drawing) -> Result<Vec<f32>, Error> {
        match self {
            Executor::Cpu(_) => Ok(vec![]),
            #[cfg(not(target_arch = "wasm32"))]
            Executor::Gpu(gpu) => Ok(gpu.finish_drawing(drawing)?),
        }
    }
}

/// The device for `choice`, shared by all models of the process while one of them is alive: starting a driver takes
/// hundreds of milliseconds, and pipelines are compiled once per device.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn shared_device(choice: &DeviceChoice) -> Result<Arc<anser_gpu::Device>, GpuError> {
    static OPEN: Mutex<Vec<(DeviceChoice, Weak<anser_gpu::Device>)>> = Mutex::new(vec![]);
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(|(_, device)| device.upgrade().is_some_and(|d| !d.is_lost()));
    if let Some(device) = open.iter().find(|(c, _)| c == choice).and_then(|(_, d)| d.upgrade()) {
        return Ok(device);
    }
    let device = anser_gpu::Device::open(choice)?;
    open.push((choice.clone(), Arc::downgrade(&device)));
    Ok(device)
}
