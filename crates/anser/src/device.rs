//! The device that a model runs on, and the executor that runs it there.

use crate::error::Error;
use crate::options::Options;
use crate::progress::LoadProgress;
use crate::sampler::Sampler;
use anser_cpu::{Cpu, SlotId};
#[cfg(not(target_arch = "wasm32"))]
use anser_gpu::PerProcess;
use anser_gpu::{DeviceChoice, Drawer, Drawing, DrawnFor, Gpu, GpuError, GpuOptions};
use anser_model::{Plan, State, StateLayout, Step};
#[cfg(target_arch = "wasm32")]
use std::cell::RefCell;
use std::fmt;
use std::ops::ControlFlow;
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Weak};
#[cfg(not(target_arch = "wasm32"))]
use std::sync::{Mutex, PoisonError};

/// The device to run a model on: `auto`, `cpu`, `gpu`, `gpu:NUMBER` or `gpu:NAME`.
///
/// ```
/// for name in ["auto", "cpu", "gpu", "gpu:1", "gpu:llvmpipe"] {
///     assert_eq!(name.parse::<anser::Device>()?.to_string(), name);
/// }
/// # Ok::<(), anser::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Device {
    /// The best hardware GPU if there is one, else the processor. Weights that do not fit in the GPU's memory stream
    /// from the file in every step.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// A GPU. A software adapter is used only if its number or name is given. A browser has one GPU, which it may be told by number.
    Gpu(DeviceChoice),
}

/// As [`Device::from_str`] reads it.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Gpu(choice) => choice.fmt(f),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Device, Error> {
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
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
    Gpu(Box<Gpu>),
}

/// A sequence whose tokens a device is to draw as `sampler` would.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DrawerOf<'a> {
    /// Holds its state.
    pub(crate) slot: SlotId,
    /// What it reads before it draws its first token.
    pub(crate) token: u32,
    pub(crate) sampler: &'a Sampler,
}

impl DrawerOf<'_> {
    fn on_device(&self) -> Option<Drawer> {
        let (options, seeds) = (self.sampler.on_device()?, self.sampler.seeds());
        Some(Drawer { slot: self.slot, token: self.token, options, seeds })
    }
}

/// A GPU that is being opened by another thread, if the options may want one.
#[derive(Debug)]
pub(crate) struct Opening {
    #[cfg(not(target_arch = "wasm32"))]
    thread: Option<std::thread::JoinHandle<Result<Arc<anser_gpu::Device>, GpuError>>>,
}

impl Opening {
    /// Starts to open the GPU that `options` may want, in another thread.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn start(options: &Options) -> Opening {
        let open = wanted(&options.device).map(|choice| {
            let folder = options.cache_folder.clone();
            move || shared_device(&choice, folder.as_deref())
        });
        // If the system starts no thread, `device` opens the GPU.
        let spawn = |open| std::thread::Builder::new().name("anser-open".into()).spawn(open).ok();
        Opening { thread: open.and_then(spawn) }
    }

    /// Does nothing: a browser has no threads, so [`Opening::device`] opens it.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn start(_: &Options) -> Opening {
        Opening {}
    }

    /// The device for `choice`, which is that of the options.
    #[cfg(target_arch = "wasm32")]
    async fn device(&mut self, choice: &DeviceChoice, _: &Options) -> Result<Arc<anser_gpu::Device>, GpuError> {
        shared_device(choice).await
    }

    /// The device for `choice`, which is that of the options.
    #[cfg(not(target_arch = "wasm32"))]
    async fn device(&mut self, choice: &DeviceChoice, options: &Options) -> Result<Arc<anser_gpu::Device>, GpuError> {
        let joined = self.thread.take().map(std::thread::JoinHandle::join);
        let opened = joined.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        opened.unwrap_or_else(|| shared_device(choice, options.cache_folder.as_deref()))
    }
}

/// Waits for the thread, since the process must not abandon a driver that is starting.
#[cfg(not(target_arch = "wasm32"))]
impl Drop for Opening {
    fn drop(&mut self) {
        // The caller drops this without using it only if it returns another error.
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// The GPU that `device` may name.
#[cfg(not(target_arch = "wasm32"))]
fn wanted(device: &Device) -> Option<DeviceChoice> {
    match device {
        Device::Auto => Some(DeviceChoice::Auto),
        Device::Cpu => None,
        Device::Gpu(choice) => Some(choice.clone()),
    }
}

/// Opens the GPU that a model with these options would run on, if any, and keeps it open while the result lives. Models
/// loaded in that time share it and its compiled kernels, and do not wait for the driver to start.
///
/// # Errors
/// If a GPU is asked for that cannot be used.
#[cfg(not(target_arch = "wasm32"))]
pub fn keep_open(options: &Options) -> Result<Option<Arc<anser_gpu::Device>>, Error> {
    let Some(choice) = wanted(&options.device) else { return Ok(None) };
    match (shared_device(&choice, options.cache_folder.as_deref()), &options.device) {
        (Ok(device), _) => Ok(Some(device)),
        (Err(error @ GpuError::Switch { .. }), _) => Err(error.into()),
        (Err(_), Device::Auto) => Ok(None),
        (Err(error), Device::Cpu | Device::Gpu(_)) => Err(error.into()),
    }
}

impl Executor {
    /// Sets up an executor for `plan`. Returns it with one line that names the device and the reason for it.
    pub(crate) async fn new(
        plan: &Arc<Plan>,
        options: &Options,
        mut opening: Opening,
    ) -> Result<(Executor, String), Error> {
        match &options.device {
            Device::Cpu => Executor::cpu(plan, options, "asked for"),
            Device::Auto => {
                let gpu = match opening.device(&DeviceChoice::Auto, options).await {
                    Ok(device) => Executor::gpu(plan, &device, options).await,
                    Err(error) => Err(error),
                };
                match gpu {
                    Ok(gpu) => Ok(gpu),
                    // A switch in the environment has a value that is not understood: the user must hear of it.
                    Err(error @ GpuError::Switch { .. }) => Err(error.into()),
                    Err(why) => Executor::cpu(plan, options, &why.to_string()),
                }
            }
            Device::Gpu(choice) => {
                let device = opening.device(choice, options).await?;
                Ok(Executor::gpu(plan, &device, options).await?)
            }
        }
    }

    fn cpu(plan: &Arc<Plan>, options: &Options, why: &str) -> Result<(Executor, String), Error> {
        if let Some(weight) = plan.weights.iter().find(|weight| !weight.is_in_memory()) {
            let (file, name) = (weight.file().name(), weight.name());
            let reason = format!(
                "the processor computes with weights in memory, and {name} of {file} is not; read the file into memory, or use a GPU ({why})"
            );
            return Err(Error::Option { option: "device", reason });
        }
        let mode = if options.exact { anser_cpu::Mode::Exact } else { anser_cpu::Mode::default() };
        let cpu_options = anser_cpu::Options {
            n_threads: crate::environment::threads(options.n_threads)?,
            mode,
            ..Default::default()
        };
        let cpu = Cpu::new(plan.clone(), cpu_options)?;
        let line = format!("CPU, {} threads: {why}", cpu.n_threads());
        let n_bytes = plan.n_bytes_per_token() as u64;
        // The weights lie in the mapped file.
        let progress = LoadProgress { n_bytes, total_n_bytes: n_bytes, layer: plan.residuals.len() };
        if let Some(ControlFlow::Break(())) = options.on_load.as_ref().map(|on_load| on_load.tell(progress)) {
            return Err(Error::Cancelled);
        }
        Ok((Executor::Cpu(Box::new(cpu)), line))
    }

    async fn gpu(
        plan: &Arc<Plan>,
        device: &Arc<anser_gpu::Device>,
        options: &Options,
    ) -> Result<(Executor, String), GpuError> {
        let gpu_options = GpuOptions { exact: options.exact, memory: options.gpu_memory, ..GpuOptions::default() };
        let on_progress = options.on_load.clone().map(|on_load| {
            let tell = move |anser_gpu::Progress { n_bytes, total_n_bytes, layer }| {
                on_load.tell(LoadProgress { n_bytes, total_n_bytes, layer })
            };
            Arc::new(tell) as anser_gpu::OnProgress
        });
        let gpu = Gpu::load_async(plan.clone(), device, gpu_options, on_progress).await?;
        Ok((Executor::Gpu(Box::new(gpu)), device.reason().to_string()))
    }

    /// Further remarks about the device for the user, one line each.
    pub(crate) fn notices(&self) -> Vec<String> {
        match self {
            Executor::Cpu(_) => vec![],
            Executor::Gpu(gpu) => gpu.notices(),
        }
    }

    /// Waits until the weights that stay on the device are there.
    pub(crate) async fn finish_loading(&self) -> Result<(), Error> {
        match self {
            Executor::Cpu(_) => Ok(()),
            Executor::Gpu(gpu) => Ok(gpu.wait_until_resident_async().await?),
        }
    }

    /// The GPU memory that the model takes; `None` on the CPU.
    pub(crate) fn gpu_memory(&self) -> Result<Option<anser_gpu::MemoryUse>, Error> {
        match self {
            Executor::Cpu(_) => Ok(None),
            Executor::Gpu(gpu) => Ok(Some(gpu.memory()?)),
        }
    }

    /// The bytes of states, and the bytes of values and of memory kept for new states, on the host.
    pub(crate) fn host_memory(&self) -> (u64, u64) {
        match self {
            Executor::Cpu(cpu) => {
                let anser_cpu::MemoryUse { states_n_bytes, scratch_n_bytes } = cpu.memory();
                (states_n_bytes, scratch_n_bytes)
            }
            Executor::Gpu(_) => (0, 0),
        }
    }

    /// The number of tokens for one step of a long prompt: many enough to use every weight that is read many times, few
    /// enough to keep the activations small.
    pub(crate) fn preferred_step_len(&self) -> usize {
        match self {
            Executor::Cpu(_) => 128,
            Executor::Gpu(gpu) => gpu.max_rows().into_iter().fold(2048, usize::min),
        }
    }

    pub(crate) fn create_state(&mut self) -> Result<SlotId, Error> {
        match self {
            Executor::Cpu(cpu) => Ok(cpu.create_state()),
            Executor::Gpu(gpu) => Ok(gpu.create_state()?),
        }
    }

    pub(crate) fn drop_state(&mut self, slot: SlotId) {
        match self {
            Executor::Cpu(cpu) => cpu.drop_state(slot),
            Executor::Gpu(gpu) => gpu.drop_state(slot),
        }
    }

    /// A copy of the state in `slot`, in the order of `layout`; on the CPU in the memory of `spare`.
    pub(crate) async fn read_state(
        &mut self,
        slot: SlotId,
        layout: &Arc<StateLayout>,
        spare: Vec<f32>,
    ) -> Result<State, Error> {
        let state = match self {
            Executor::Cpu(cpu) => {
                let mut data = spare;
                data.clear();
                data.extend_from_slice(cpu.state(slot).unwrap_or_default());
                State::from_vec(layout.clone(), data)
            }
            Executor::Gpu(gpu) => match gpu.read_state_async(slot).await {
                Ok(data) => State::from_finite(layout.clone(), data),
                Err(GpuError::State(error)) => Err(error),
                Err(error) => return Err(error.into()),
            },
        };
        Ok(state?)
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
            Executor::Gpu(gpu) => Ok(gpu.write_state(slot, data)?),
        }
    }

    /// Copies the state in `from` over that in `to`.
    pub(crate) fn copy_state(&mut self, from: SlotId, to: SlotId) -> Result<(), Error> {
        match self {
            Executor::Cpu(cpu) => {
                let state = cpu.state(from).unwrap_or_default().to_vec();
                self.write_state(to, &state)
            }
            Executor::Gpu(gpu) => Ok(gpu.copy_state(from, to)?),
        }
    }

    /// Runs `step`, and calls `take` with the values of its reads without copying them.
    pub(crate) async fn step_for<R>(&mut self, step: &Step<'_>, take: impl FnOnce(&[&[f32]]) -> R) -> Result<R, Error> {
        match self {
            Executor::Cpu(cpu) => Ok(cpu.step_for(step, take)?),
            Executor::Gpu(gpu) => Ok(gpu.step_for_async(step, take).await?),
        }
    }

    /// Runs `step` and returns the values of its reads.
    pub(crate) async fn step(&mut self, step: &Step<'_>) -> Result<Vec<Vec<f32>>, Error> {
        match self {
            Executor::Cpu(cpu) => Ok(cpu.step(step)?),
            Executor::Gpu(gpu) => Ok(gpu.step_async(step).await?),
        }
    }

    /// Begins to draw the tokens of sequences on the device, as their samplers would on the host, with `n_rows` rows; those that
    /// `drawers` leave empty are for sequences that join later. `None` if the host has to draw.
    pub(crate) async fn start_drawing(
        &mut self,
        drawers: &[DrawerOf<'_>],
        n_rows: usize,
    ) -> Result<Option<Drawing>, Error> {
        match self {
            Executor::Cpu(_) => Ok(None),
            Executor::Gpu(gpu) => match drawers.iter().map(DrawerOf::on_device).collect() {
                Some(drawers) => Ok(gpu.start_drawing_with_room_async(drawers, n_rows).await?),
                None => Ok(None),
            },
        }
    }

    /// Lets another sequence draw in a row that is free; returns the row, `None` if there is none or the host has to draw.
    pub(crate) fn join_drawing(
        &mut self,
        drawing: &mut Drawing,
        drawer: &DrawerOf<'_>,
    ) -> Result<Option<usize>, Error> {
        match self {
            Executor::Cpu(_) => Ok(None),
            Executor::Gpu(gpu) => match drawer.on_device() {
                Some(drawer) => Ok(gpu.join_drawing(drawing, drawer)?),
                None => Ok(None),
            },
        }
    }

    /// Reads the last tokens and draws the next ones, row by row. `goes_on` says that the caller will most likely want the tokens
    /// after those, so that the device may begin with them.
    pub(crate) async fn draw(&mut self, drawing: &mut Drawing, goes_on: bool) -> Result<Vec<DrawnFor>, Error> {
        match self {
            Executor::Cpu(_) => Ok(vec![]),
            Executor::Gpu(gpu) => Ok(gpu.draw_async(drawing, goes_on).await?),
        }
    }

    /// Takes the sequences of `rows` out of the drawing. Returns, for each, the logits of the last token that it has
    /// read, if a token was drawn from them.
    pub(crate) async fn leave_drawing(
        &mut self,
        drawing: &mut Drawing,
        rows: &[usize],
    ) -> Result<Vec<Vec<f32>>, Error> {
        match self {
            Executor::Cpu(_) => Ok(vec![]),
            Executor::Gpu(gpu) => Ok(gpu.leave_drawing_async(drawing, rows).await?),
        }
    }

    /// Ends the drawing. Returns the logits, as [`Executor::leave_drawing`] does, of the sequences that are still in
    /// it, in order.
    pub(crate) async fn finish_drawing(&mut self, drawing: Drawing) -> Result<Vec<Vec<f32>>, Error> {
        match self {
            Executor::Cpu(_) => Ok(vec![]),
            Executor::Gpu(gpu) => Ok(gpu.finish_drawing_async(drawing).await?),
        }
    }
}

/// A device that a model of this process may have open, and the choice that it was opened for.
type OpenDevice = (DeviceChoice, Weak<anser_gpu::Device>);

/// The device for `choice`, shared by all models of the process while one of them is alive: starting a driver takes
/// hundreds of milliseconds, and pipelines are compiled once per device.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn shared_device(choice: &DeviceChoice, cache: Option<&Path>) -> Result<Arc<anser_gpu::Device>, GpuError> {
    static OPEN: PerProcess<Mutex<Vec<OpenDevice>>> = PerProcess::new();
    let mut open = OPEN.get().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = find_open(&mut open, choice) {
        return Ok(device);
    }
    let device = anser_gpu::Device::open_with_cache(choice, cache)?;
    open.push((choice.clone(), Arc::downgrade(&device)));
    Ok(device)
}

/// The device for `choice`, shared by all models of the worker while one of them is alive.
#[cfg(target_arch = "wasm32")]
async fn shared_device(choice: &DeviceChoice) -> Result<Arc<anser_gpu::Device>, GpuError> {
    thread_local! {
        static OPEN: RefCell<Vec<OpenDevice>> = const { RefCell::new(vec![]) };
    }
    if let Some(device) = OPEN.with_borrow_mut(|open| find_open(open, choice)) {
        return Ok(device);
    }
    // Nothing is borrowed while the browser opens it: another model that is being loaded then gets a device of its own.
    let device = anser_gpu::Device::open_async(choice).await?;
    OPEN.with_borrow_mut(|open| open.push((choice.clone(), Arc::downgrade(&device))));
    Ok(device)
}

/// The device among those `open` that was opened for `choice`. Those that are closed or lost are forgotten.
fn find_open(open: &mut Vec<OpenDevice>, choice: &DeviceChoice) -> Option<Arc<anser_gpu::Device>> {
    open.retain(|(_, device)| device.upgrade().is_some_and(|device| !device.is_lost()));
    open.iter().find(|(opened_for, _)| opened_for == choice).and_then(|(_, device)| device.upgrade())
}
