//! Compiled kernels, each compiled once per device.

use crate::device::Device;
use crate::error::GpuError;
use crate::kernels::{Access, KernelSpec};
use std::collections::HashMap;
use std::sync::Mutex;

/// What tells kernels apart: their files and the bits of their constants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    modules: Vec<&'static str>,
    constants: Vec<(&'static str, u64)>,
}

impl Key {
    fn new(spec: &KernelSpec) -> Key {
        Key {
            modules: spec.modules.iter().map(|m| m.name).collect(),
            constants: spec.constants.iter().map(|&(name, value)| (name, value.to_bits())).collect(),
        }
    }
}

/// The kernels of a device that were compiled so far.
#[derive(Debug, Default)]
pub(crate) struct Pipelines {
    compiled: Mutex<HashMap<Key, wgpu::ComputePipeline>>,
    layouts: Mutex<HashMap<Vec<Access>, (wgpu::BindGroupLayout, wgpu::PipelineLayout)>>,
}

impl Device {
    /// The compiled kernel.
    ///
    /// # Errors
    /// If the driver cannot compile it.
    pub(crate) fn pipeline(&self, spec: &KernelSpec) -> Result<wgpu::ComputePipeline, GpuError> {
        let key = Key::new(spec);
        if let Some(found) = lock(&self.pipelines.compiled).get(&key) {
            return Ok(found.clone());
        }
        let pipeline = self.compile(spec)?;
        Ok(lock(&self.pipelines.compiled).entry(key).or_insert(pipeline).clone())
    }

    /// Compiles those of `specs` that are not compiled yet, on as many threads as the machine has cores.
    ///
    /// # Errors
    /// The first of the driver's complaints.
    pub(crate) fn compile_all<'a>(&self, specs: impl Iterator<Item = &'a KernelSpec>) -> Result<(), GpuError> {
        let mut missing: HashMap<Key, &KernelSpec> = specs.map(|spec| (Key::new(spec), spec)).collect();
        missing.retain(|key, _| !lock(&self.pipelines.compiled).contains_key(key));
        let missing: Vec<&KernelSpec> = missing.into_values().collect();
        for_each_parallel(&missing, |spec| self.pipeline(spec).map(drop))
    }

    fn compile(&self, spec: &KernelSpec) -> Result<wgpu::ComputePipeline, GpuError> {
        let source = source(spec);
        let (_, layout) = self.layouts(&spec.access);
        let compile = || {
            let source = wgpu::ShaderSource::Wgsl(source.into());
            let descriptor = wgpu::ShaderModuleDescriptor { label: Some(spec.label), source };
            // SAFETY: without the checks, a shader must not index out of bounds, loop forever or divide by zero. Our
            // kernels take every index from grid and sizes that the host computed for the very buffers it binds, token
            // ids and slots are checked before a step, all loops are counted, and no divisor comes from a model's data.
            #[allow(unsafe_code)]
            let module =
                unsafe { self.inner.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
            self.inner.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(spec.label),
                layout: Some(&layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &spec.constants,
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            })
        };
        self.guard(|| format!("compiling the kernel {}", spec.label), compile)
    }

    /// The layouts of bind group 0 and of the pipeline for bindings used like `access`.
    pub(crate) fn layouts(&self, access: &[Access]) -> (wgpu::BindGroupLayout, wgpu::PipelineLayout) {
        let create = || {
            let entries: Vec<_> = access.iter().enumerate().map(|(i, &a)| layout_entry(i as u32, a)).collect();
            let group = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
            let group = self.inner.create_bind_group_layout(&group);
            let layout = self.inner.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&group)],
                immediate_size: 0,
            });
            (group, layout)
        };
        lock(&self.pipelines.layouts).entry(access.to_vec()).or_insert_with(create).clone()
    }
}

/// The text of a kernel.
pub(crate) fn source(spec: &KernelSpec) -> String {
    spec.modules.iter().map(|m| m.source).collect()
}

fn layout_entry(binding: u32, access: Access) -> wgpu::BindGroupLayoutEntry {
    let ty = match access {
        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
        Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
        Access::Uniform => wgpu::BufferBindingType::Uniform,
    };
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}

/// Locks a map whose entries are complete at any moment, so that a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Calls `f` for every item, on as many threads as the machine has cores.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn for_each_parallel<T: Sync>(
    items: &[T],
    f: impl Fn(&T) -> Result<(), GpuError> + Sync,
) -> Result<(), GpuError> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    let next = AtomicUsize::new(0);
    let first_error = Mutex::new(Ok(()));
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = f(item) {
                let mut first = lock(&first_error);
                if first.is_ok() {
                    *first = Err(error);
                }
                return;
            }
        }
    };
    if n_threads <= 1 {
        work();
    } else {
        std::thread::scope(|scope| (0..n_threads).for_each(|_| drop(scope.spawn(work))));
    }
    first_error.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Calls `f` for every item; a browser's worker has one thread.
#[cfg(target_arch = "wasm32")]
pub(crate) fn for_each_parallel<T>(items: &[T], f: impl Fn(&T) -> Result<(), GpuError>) -> Result<(), GpuError> {
    items.iter().try_for_each(f)
}
