//! Compiled kernels, each compiled once per device.

use super::kernel::{Access, Argument, KernelSpec};
use super::parallel::for_each_parallel;
use crate::device::Device;
#[cfg(not(target_arch = "wasm32"))]
use crate::device::pipeline_cache::PipelineCache;
use crate::error::GpuError;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What a kernel's text is made of: its files and its arguments.
type Text = (Vec<&'static str>, Vec<Argument>);

fn text(spec: &KernelSpec) -> Text {
    (spec.modules.iter().map(|m| m.name).collect(), spec.arguments.clone())
}

/// What tells kernels apart: their text and the bits of their constants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    text: Text,
    constants: Vec<(&'static str, u64)>,
}

impl Key {
    fn new(spec: &KernelSpec) -> Key {
        let constants = spec.constants.iter().map(|&(name, value)| (name, value.to_bits())).collect();
        Key { text: text(spec), constants }
    }
}

/// Things that take long to make. An entry is locked while a thread makes it, so that no other thread makes it, too.
#[derive(Debug)]
struct Made<K, V>(Mutex<HashMap<K, Arc<Mutex<Option<V>>>>>);

impl<K, V> Default for Made<K, V> {
    fn default() -> Self {
        Made(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Made<K, V> {
    /// The thing for `key`, which `make` makes at first.
    fn get<E>(&self, key: K, make: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        let entry = lock(&self.0).entry(key).or_default().clone();
        let mut made = lock(&entry);
        Ok(match &*made {
            Some(found) => found.clone(),
            None => made.insert(make()?).clone(),
        })
    }
}

/// The kernels of a device that were compiled so far.
#[derive(Debug, Default)]
pub(crate) struct Pipelines {
    compiled: Made<Key, wgpu::ComputePipeline>,
    /// Kernels that differ in their constants share the parsed text: a pipeline keeps it for as long as it lives.
    shaders: Made<Text, wgpu::ShaderModule>,
    layouts: Mutex<HashMap<Vec<Access>, (wgpu::BindGroupLayout, wgpu::PipelineLayout)>>,
}

/// Threads that compile what a step waits for. Each takes some 10 MB of the driver's compiler, which stays with the process,
/// and what is compiled ahead takes as many at the same time.
const MAX_THREADS: usize = 7;

impl Device {
    /// The compiled kernel.
    ///
    /// # Errors
    /// If the driver cannot compile it.
    pub(crate) fn pipeline(&self, spec: &KernelSpec) -> Result<wgpu::ComputePipeline, GpuError> {
        self.pipelines.compiled.get(Key::new(spec), || self.compile(spec))
    }

    /// Compiles those of `specs` that are not compiled yet.
    ///
    /// # Errors
    /// The first of the driver's complaints.
    pub(crate) fn compile_all<'a>(&self, specs: impl Iterator<Item = &'a KernelSpec>) -> Result<(), GpuError> {
        let missing = distinct(specs);
        for_each_parallel(&missing, MAX_THREADS, |spec| self.pipeline(spec).map(drop))
    }

    /// Drops what is kept of these kernels. Programs that run them go on; whoever needs one again compiles it again.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn forget_kernels(&self, specs: &[KernelSpec]) {
        for spec in specs {
            lock(&self.pipelines.compiled.0).remove(&Key::new(spec));
            lock(&self.pipelines.shaders.0).remove(&text(spec));
        }
    }

    fn compile(&self, spec: &KernelSpec) -> Result<wgpu::ComputePipeline, GpuError> {
        let module = self.pipelines.shaders.get(text(spec), || self.shader(spec))?;
        let (_, layout) = self.layouts(&spec.access);
        let compile = || {
            self.inner.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(spec.label),
                layout: Some(&layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &spec.constants,
                    zero_initialize_workgroup_memory: false,
                },
                cache: self.cache(),
            })
        };
        let compiled = self.guard(|| format!("compiling the kernel {}", spec.label), compile);
        #[cfg(not(target_arch = "wasm32"))]
        self.cache.iter().for_each(PipelineCache::count);
        compiled
    }

    fn shader(&self, spec: &KernelSpec) -> Result<wgpu::ShaderModule, GpuError> {
        let parse = || {
            let source = wgpu::ShaderSource::Wgsl(spec.source().into());
            let descriptor = wgpu::ShaderModuleDescriptor { label: Some(spec.label), source };
            // SAFETY: without the checks, a shader must not index out of bounds, loop forever or divide by zero. Our
            // kernels take every index from grid and sizes that the host computed for the very buffers it binds, token
            // ids and slots are checked before a step, all loops are counted, and no divisor comes from a model's data.
            #[allow(unsafe_code)]
            unsafe {
                self.inner.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
            }
        };
        self.guard(|| format!("reading the kernel {}", spec.label), parse)
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn cache(&self) -> Option<&wgpu::PipelineCache> {
        self.cache.as_ref().map(|cache| &cache.inner)
    }

    #[cfg(target_arch = "wasm32")]
    fn cache(&self) -> Option<&wgpu::PipelineCache> {
        None
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

/// One of each of the equal ones, in order.
pub(crate) fn distinct<'a>(specs: impl Iterator<Item = &'a KernelSpec>) -> Vec<&'a KernelSpec> {
    let mut found = HashSet::new();
    specs.filter(|spec| found.insert(Key::new(spec))).collect()
}

/// Compiles kernels that will probably be needed, while the device already works with others.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug)]
pub(crate) struct Ahead {
    ends: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[cfg(not(target_arch = "wasm32"))]
impl Ahead {
    /// Starts to compile the kernels of the likeliest steps, then the others.
    pub(crate) fn start(device: &Arc<Device>, [first, others]: [Vec<KernelSpec>; 2]) -> Ahead {
        /// A step that comes earlier compiles what it needs itself.
        const MAX_THREADS_OF_OTHERS: usize = 2;

        let ends = Arc::new(AtomicBool::new(false));
        let (device, is_over) = (device.clone(), ends.clone());
        let work = move || {
            let compile = |spec: &KernelSpec| match is_over.load(Ordering::Relaxed) {
                true => Ok(()),
                false => device.pipeline(spec).map(drop),
            };
            for (specs, max_threads) in [(first, MAX_THREADS), (others, MAX_THREADS_OF_OTHERS)] {
                // Who needs a kernel that cannot be compiled will be told.
                if let Err(error) = for_each_parallel(&specs, max_threads, compile) {
                    log::warn!("{error}");
                }
            }
            device.cache.iter().for_each(PipelineCache::save);
        };
        Ahead { ends, thread: std::thread::Builder::new().name("kernels".into()).spawn(work).ok() }
    }
}

/// A browser's worker has one thread: kernels are compiled when they are needed.
#[cfg(target_arch = "wasm32")]
#[derive(Debug)]
pub(crate) struct Ahead;

#[cfg(target_arch = "wasm32")]
impl Ahead {
    /// Compiles nothing.
    pub(crate) fn start(_: &Arc<Device>, _: [Vec<KernelSpec>; 2]) -> Ahead {
        Ahead
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Drop for Ahead {
    /// Waits for the kernels that are being compiled: a process must not end amid that.
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // The panic hook has printed a panic of that thread; a kernel that is missing is compiled when a step needs it.
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
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
