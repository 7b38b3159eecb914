//! Adapters, and the opened device: what it can do, and what went wrong on it.

#[cfg(target_arch = "wasm32")]
use super::browser;
use super::features::{Features, Matrices};
use crate::device::DeviceChoice;
use crate::device::drivers::{self, Turn};
use crate::device::environment::Switches;
use crate::device::faults::Faults;
#[cfg(target_arch = "wasm32")]
use crate::device::faults::Watch;
#[cfg(target_arch = "wasm32")]
use crate::device::mapping::Pending;
#[cfg(not(target_arch = "wasm32"))]
use crate::device::pipeline_cache::PipelineCache;
use crate::device::pipelines::Pipelines;
use crate::device::tuning::Tuning;
use crate::error::GpuError;
use std::path::Path;
#[cfg(not(target_arch = "wasm32"))]
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// Kind of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceKind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A GPU lent to a virtual machine.
    Virtual,
    /// A driver that does not say; browsers never do.
    #[default]
    Unknown,
    /// The processor, posing as a GPU.
    Software,
}

impl DeviceKind {
    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            DeviceKind::Discrete => "discrete",
            DeviceKind::Integrated => "integrated",
            DeviceKind::Virtual => "virtual",
            DeviceKind::Unknown => "unknown",
            DeviceKind::Software => "software",
        }
    }

    /// Cores to expect: those of a large card, since workgroups that a small one runs one after another cost it less than a large
    /// one loses by idle cores.
    fn usual_n_cores(self) -> u32 {
        match self {
            DeviceKind::Discrete | DeviceKind::Virtual | DeviceKind::Unknown => 132,
            DeviceKind::Integrated => 16,
            DeviceKind::Software => 8,
        }
    }

    /// Greater for kinds that are likely faster.
    pub(crate) fn rank(self) -> u32 {
        match self {
            DeviceKind::Discrete => 4,
            DeviceKind::Virtual => 3,
            DeviceKind::Integrated => 2,
            DeviceKind::Unknown => 1,
            DeviceKind::Software => 0,
        }
    }
}

/// What one adapter is and can do, as its driver tells it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AdapterReport {
    /// Position in [`Device::list`].
    pub number: usize,
    /// Name of the hardware, e.g. `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Kind.
    pub kind: DeviceKind,
    /// Graphics interface: `vulkan`, `metal`, `dx12` or `webgpu`.
    pub backend: &'static str,
    /// Name and version of the driver.
    pub driver: String,
    /// 16-bit floats in shaders.
    pub f16: bool,
    /// Subgroup operations in shaders.
    pub subgroups: bool,
    /// Smallest and largest number of invocations in a subgroup.
    pub subgroup_size: [u32; 2],
    /// 16×16×16 matrix products of 16-bit floats in hardware.
    pub coop_matrix: bool,
    /// Timestamps, for profiles.
    pub timestamps: bool,
    /// Largest buffer that a shader can bind.
    pub max_binding_n_bytes: u64,
    /// Largest buffer.
    pub max_buffer_n_bytes: u64,
    /// Storage buffers that a shader can bind.
    pub max_bindings: u32,
    /// Invocations in a workgroup.
    pub max_workgroup_len: u32,
    /// Memory of a workgroup.
    pub max_workgroup_n_bytes: u32,
}

impl AdapterReport {
    fn new(number: usize, adapter: &wgpu::Adapter) -> AdapterReport {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        AdapterReport {
            number,
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => DeviceKind::Discrete,
                wgpu::DeviceType::IntegratedGpu => DeviceKind::Integrated,
                wgpu::DeviceType::VirtualGpu => DeviceKind::Virtual,
                wgpu::DeviceType::Other => DeviceKind::Unknown,
                wgpu::DeviceType::Cpu => DeviceKind::Software,
            },
            backend: match info.backend {
                wgpu::Backend::Vulkan => "vulkan",
                wgpu::Backend::Metal => "metal",
                wgpu::Backend::Dx12 => "dx12",
                wgpu::Backend::BrowserWebGpu => "webgpu",
                wgpu::Backend::Gl => "gl",
                wgpu::Backend::Noop => "noop",
            },
            driver: [info.driver, info.driver_info].join(" ").trim().into(),
            name: info.name,
            f16: features.contains(wgpu::Features::SHADER_F16),
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            subgroup_size: [info.subgroup_min_size, info.subgroup_max_size],
            coop_matrix: has_coop_matrix(adapter),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            max_binding_n_bytes: limits.max_storage_buffer_binding_size,
            max_buffer_n_bytes: limits.max_buffer_size,
            max_bindings: limits.max_storage_buffers_per_shader_stage,
            max_workgroup_len: limits.max_compute_invocations_per_workgroup,
            max_workgroup_n_bytes: limits.max_compute_workgroup_storage_size,
        }
    }
}

/// Whether the adapter multiplies 16×16 matrices of f16 into f32.
fn has_coop_matrix(adapter: &wgpu::Adapter) -> bool {
    use wgpu::CooperativeScalarType::{F16, F32};
    adapter.features().contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX)
        && adapter
            .cooperative_matrix_properties()
            .iter()
            .any(|p| [p.m_size, p.n_size, p.k_size] == [16; 3] && p.ab_type == F16 && p.cr_type == F32)
}

/// An opened device, shared by the models that run on it.
#[derive(Debug)]
pub struct Device {
    report: AdapterReport,
    reason: String,
    features: Features,
    /// Whether sequences may draw their own tokens.
    draws: bool,
    /// What was measured on this device in earlier processes; nothing if the environment says so.
    tuning: Tuning,
    /// Where measurements are kept.
    #[cfg(not(target_arch = "wasm32"))]
    tuning_path: Option<PathBuf>,
    pub(crate) inner: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) pipelines: Pipelines,
    /// Where compiled kernels are kept for the next process.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) cache: Option<PipelineCache>,
    /// Why the device was lost, once it is.
    lost: Arc<OnceLock<String>>,
    pub(super) faults: Faults,
    /// Taken before anything is dropped, given back after everything is: fields are dropped in their order.
    closing: Option<Turn>,
}

impl Device {
    /// Every adapter of this machine, in a fixed order. Devices may be listed, opened and dropped by any threads at once.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn list() -> Vec<AdapterReport> {
        pollster::block_on(Self::list_async())
    }

    /// Opens the adapter that fulfils `choice`.
    ///
    /// # Errors
    /// If there is none, or its driver refuses; if a switch in the environment is neither on nor off.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(choice: &DeviceChoice) -> Result<Arc<Device>, GpuError> {
        Device::open_with_cache(choice, None)
    }

    /// [`Device::open`], keeping compiled kernels in `folder` for the next process, if the driver can tell them. A folder
    /// that cannot be written to, or damaged files in it, do no harm. Nobody else may write there: drivers trust what they
    /// have compiled.
    ///
    /// # Errors
    /// As [`Device::open`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open_with_cache(choice: &DeviceChoice, folder: Option<&Path>) -> Result<Arc<Device>, GpuError> {
        pollster::block_on(Device::open_in(choice, folder))
    }

    /// [`Device::list`], for where nothing may block.
    pub async fn list_async() -> Vec<AdapterReport> {
        drivers::enter(async |instance| reports(&drivers::adapters(instance).await)).await
    }

    /// [`Device::open`], for where nothing may block.
    pub async fn open_async(choice: &DeviceChoice) -> Result<Arc<Device>, GpuError> {
        Device::open_in(choice, None).await
    }

    async fn open_in(choice: &DeviceChoice, folder: Option<&Path>) -> Result<Arc<Device>, GpuError> {
        let switches = Switches::read()?;
        let open = async |instance: &wgpu::Instance| {
            let mut adapters = drivers::adapters(instance).await;
            let mut reports = reports(&adapters);
            let (number, reason) = choice.select(&reports)?;
            let (report, adapter) = (reports.swap_remove(number), adapters.swap_remove(number));
            let opened = Device::from_adapter(report, reason, adapter, switches, folder).await;
            // Only an opened device tells its name in a browser.
            #[cfg(target_arch = "wasm32")]
            let opened = opened.and_then(|mut device| {
                device.reason = choice.select(std::slice::from_ref(&device.report))?.1;
                Ok(device)
            });
            opened
        };
        drivers::enter(open).await.map(Arc::new)
    }

    async fn from_adapter(
        mut report: AdapterReport,
        reason: String,
        adapter: wgpu::Adapter,
        switches: Switches,
        folder: Option<&Path>,
    ) -> Result<Device, GpuError> {
        use wgpu::Features as F;
        let limits = adapter.limits();
        if report.max_bindings < MAX_BINDINGS {
            return Err(GpuError::Limit {
                adapter: report.name,
                limit: "maxStorageBuffersPerShaderStage",
                found: report.max_bindings.into(),
                needed: MAX_BINDINGS.into(),
                what: "the kernels".into(),
            });
        }
        report.f16 &= !switches.no_f16;
        report.subgroups &= !switches.no_subgroups;
        report.coop_matrix &= report.f16 && report.subgroups && !switches.no_coop_matrix;
        let mut wanted = F::empty();
        wanted.set(F::SHADER_F16, report.f16);
        wanted.set(F::SUBGROUP, report.subgroups);
        wanted.set(F::EXPERIMENTAL_COOPERATIVE_MATRIX, report.coop_matrix);
        wanted.set(F::TIMESTAMP_QUERY, report.timestamps);
        #[cfg(not(target_arch = "wasm32"))]
        let kept_in = folder;
        let folder = folder.filter(|_| adapter.features().contains(F::PIPELINE_CACHE));
        wanted.set(F::PIPELINE_CACHE, folder.is_some());
        let experimental_features = match report.coop_matrix {
            // SAFETY: experimental features may misbehave where an implementation is incomplete. Only cooperative
            // matrices are asked for, only in the configuration that the driver lists, and only by kernels whose
            // results the tests compare with the CPU's.
            #[allow(unsafe_code)]
            true => unsafe { wgpu::ExperimentalFeatures::enabled() },
            false => wgpu::ExperimentalFeatures::disabled(),
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("anser"),
            required_features: wanted,
            required_limits: limits.clone(),
            experimental_features,
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        };
        let opened = adapter.request_device(&descriptor).await;
        let (inner, queue) =
            opened.map_err(|e| GpuError::Open { adapter: report.name.clone(), reason: e.to_string() })?;
        #[cfg(target_arch = "wasm32")]
        {
            report.name = browser::name(&inner).unwrap_or(report.name);
            report.subgroups = browser::has_subgroups(&inner) && !switches.no_subgroups;
        }

        let lost = Arc::new(OnceLock::new());
        let on_lost = lost.clone();
        inner.set_device_lost_callback(move |reason, message| {
            // A second loss cannot tell more than the first.
            let _ = on_lost.set(format!("{reason:?}: {message}"));
        });
        let faults = Faults::of(&inner);
        #[cfg(not(target_arch = "wasm32"))]
        let tuning_path = kept_in.filter(|_| !switches.no_tuning).map(|folder| Tuning::path(folder, &report));
        #[cfg(not(target_arch = "wasm32"))]
        let tuning = tuning_path.as_deref().map_or(Tuning::default(), |path| Tuning::read(path, &report));
        #[cfg(target_arch = "wasm32")]
        let tuning = Tuning::default();
        let features = Features {
            n_cores: tuning.n_cores.unwrap_or(report.kind.usual_n_cores()),
            f16: report.f16,
            subgroups: report.subgroups,
            subgroup_size: report.subgroup_size,
            matrices: Matrices::of(report.f16, report.coop_matrix, switches.plain_matrices),
            max_bindings: report.max_bindings,
            max_workgroup_len: limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
            max_workgroup_n_bytes: limits.max_compute_workgroup_storage_size,
        };
        log::info!("{reason}; {features:?}; {} shapes of kernels were measured", tuning.chosen.len());
        let pipelines = Pipelines::default();
        Ok(Device {
            #[cfg(not(target_arch = "wasm32"))]
            cache: folder.and_then(|folder| PipelineCache::open(folder, &adapter.get_info(), &inner)),
            report,
            reason,
            features,
            draws: !switches.no_drawing,
            tuning,
            #[cfg(not(target_arch = "wasm32"))]
            tuning_path,
            inner,
            queue,
            pipelines,
            lost,
            faults,
            closing: None,
        })
    }

    /// What the adapter is and can do, less what the environment switches off (`ANSER_GPU_NO_F16`,
    /// `ANSER_GPU_NO_SUBGROUPS`, `ANSER_GPU_NO_COOPMAT`).
    pub fn report(&self) -> &AdapterReport {
        &self.report
    }

    /// One line: which adapter was chosen, and why.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What shaders may use.
    pub(crate) fn features(&self) -> Features {
        self.features
    }

    /// Whether sequences may draw their own tokens; the environment variable `ANSER_GPU_NO_DRAWING` leaves that to the host.
    pub(crate) fn draws(&self) -> bool {
        self.draws
    }

    /// What was measured on this device in earlier processes.
    pub(crate) fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Whether measurements of this device are kept for later processes.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn keeps_measurements(&self) -> bool {
        self.tuning_path.is_some()
    }

    /// Where measurements of this device are kept; `None` if it was opened without a folder, or the environment variable
    /// `ANSER_GPU_NO_TUNING` forbids them.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn tuning_path(&self) -> Option<&Path> {
        self.tuning_path.as_deref()
    }

    /// Whether the device is gone: what runs on it ends with [`GpuError::Lost`], and another must be opened.
    pub fn is_lost(&self) -> bool {
        self.lost.get().is_some()
    }

    /// Gives the device back. Whatever runs on it, or is started later, ends with [`GpuError::Lost`].
    pub fn destroy(&self) {
        self.inner.destroy();
        let _ = self.lost.set("it was given back".into());
    }

    /// Whether the device is still there.
    pub(crate) fn check(&self) -> Result<(), GpuError> {
        match self.lost.get() {
            Some(reason) => Err(GpuError::Lost { adapter: self.report.name.clone(), reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Waits until the device has done what was submitted up to `submission`.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn wait_for(&self, submission: wgpu::SubmissionIndex) -> Result<(), GpuError> {
        self.poll_until(wgpu::PollType::Wait { submission_index: Some(submission), timeout: None })
    }

    /// Nothing may wait in a browser: there, callbacks are called when the page's event loop runs.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn wait_for(&self, _: wgpu::SubmissionIndex) -> Result<(), GpuError> {
        self.check()
    }

    /// Waits until the device has done everything that was submitted.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn wait(&self) -> Result<(), GpuError> {
        self.poll_until(wgpu::PollType::wait_indefinitely())
    }

    /// Waits until the device has done everything that was submitted, for where nothing may block.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) async fn wait_async(&self) -> Result<(), GpuError> {
        self.wait()
    }

    /// Waits until the device has done everything that was submitted.
    #[cfg(target_arch = "wasm32")]
    pub(crate) async fn wait_async(&self) -> Result<(), GpuError> {
        let done = Pending::default();
        let on_done = done.clone();
        self.queue.on_submitted_work_done(move || on_done.finish(true));
        done.await;
        Watch::default().finish(self).await
    }

    /// Calls what waits for work that the device has done.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn poll(&self) -> Result<(), GpuError> {
        self.poll_until(wgpu::PollType::Poll)
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn poll_until(&self, until: wgpu::PollType) -> Result<(), GpuError> {
        // wgpu panics when a device is lost while it waits; here that is an error like any other.
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.inner.poll(until)));
        let reason = match polled {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the driver stopped answering".into()),
        };
        if let Some(reason) = reason {
            // A second loss cannot tell more than the first.
            let _ = self.lost.set(reason);
        }
        self.check()
    }

    /// The error that `what` failed for `reason`.
    pub(crate) fn failed(&self, what: &str, reason: &str) -> GpuError {
        GpuError::Driver { adapter: self.report.name.clone(), what: what.into(), reason: reason.into() }
    }

    /// A buffer of `n_bytes`, rounded up to a whole number of words. A browser tells of full memory only later: as the error of the step
    /// that uses the buffer.
    pub(crate) fn create_buffer(
        &self,
        label: &str,
        n_bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, GpuError> {
        let descriptor = self.describe(label, n_bytes, usage)?;
        self.guard(|| format!("{label} ({n_bytes} bytes)"), || self.inner.create_buffer(&descriptor))
    }

    /// [`Device::create_buffer`], which waits where a browser has yet to tell whether there is memory.
    pub(crate) async fn create_buffer_async(
        &self,
        label: &str,
        n_bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, GpuError> {
        let descriptor = self.describe(label, n_bytes, usage)?;
        let what = || format!("{label} ({n_bytes} bytes)");
        let (buffer, watch) = self.watch(what, || self.inner.create_buffer(&descriptor))?;
        watch.finish(self).await?;
        Ok(buffer)
    }

    fn describe<'a>(
        &self,
        label: &'a str,
        n_bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::BufferDescriptor<'a>, GpuError> {
        let size = n_bytes.next_multiple_of(4).max(16);
        let found = self.report.max_buffer_n_bytes;
        if size > found {
            let (adapter, what) = (self.report.name.clone(), label.into());
            return Err(GpuError::Limit { adapter, limit: "maxBufferSize", found, needed: size, what });
        }
        Ok(wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
    }
}

/// What was compiled since the cache was saved is saved.
impl Drop for Device {
    fn drop(&mut self) {
        #[cfg(not(target_arch = "wasm32"))]
        if !self.is_lost() {
            self.cache.iter().for_each(PipelineCache::save);
        }
        self.closing = Some(Turn::take());
    }
}

/// Storage buffers that the operation with the most of them binds.
const MAX_BINDINGS: u32 = 9;

fn reports(adapters: &[wgpu::Adapter]) -> Vec<AdapterReport> {
    adapters.iter().enumerate().map(|(number, adapter)| AdapterReport::new(number, adapter)).collect()
}
