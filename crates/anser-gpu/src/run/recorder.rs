//! The commands of steps that repeat, recorded ahead by threads of their own: a dispatch takes some 5 µs to record, a small
//! model's less to run.

use crate::device::Device;
use crate::error::GpuError;
use std::sync::Arc;

/// What a pass does at one point: a dispatch, and the buffers that become readable before it.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) ahead: Vec<wgpu::Buffer>,
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) bind_group: wgpu::BindGroup,
    pub(crate) grid: [u32; 3],
}

impl Command {
    /// Records the dispatch; nothing to do is fine.
    pub(crate) fn encode(&self, pass: &mut wgpu::ComputePass) {
        let readable = |buffer| wgpu::BufferTransition { buffer, state: wgpu::BufferUses::STORAGE_READ_ONLY };
        if !self.ahead.is_empty() {
            pass.transition_resources(self.ahead.iter().map(readable), std::iter::empty());
        }
        let [x, y, z] = self.grid;
        if x > 0 && y > 0 && z > 0 {
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.bind_group, &[]);
            pass.dispatch_workgroups(x, y, z);
        }
    }
}

/// All commands of a step.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// In order; each is a pass.
    pub(crate) passes: Vec<Vec<Command>>,
    /// What is copied at the end, where to, and how many bytes.
    pub(crate) copy: (wgpu::Buffer, wgpu::Buffer, u64),
}

impl Recipe {
    fn record(&self, device: &Device) -> Result<wgpu::CommandBuffer, GpuError> {
        let record = || {
            let descriptor = wgpu::CommandEncoderDescriptor { label: Some("a repeated step") };
            let mut encoder = device.inner.create_command_encoder(&descriptor);
            for commands in &self.passes {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                commands.iter().for_each(|command| command.encode(&mut pass));
            }
            let (from, to, n_bytes) = &self.copy;
            encoder.copy_buffer_to_buffer(from, 0, to, 0, *n_bytes);
            encoder.finish()
        };
        device.guard(|| "recording a step".into(), record)
    }
}

#[cfg(target_arch = "wasm32")]
pub(crate) use inline::Recorder;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use threads::Recorder;

/// Two kinds of steps take turns.
type Recipes = [Recipe; 2];

#[cfg(not(target_arch = "wasm32"))]
mod threads {
    use super::{Arc, Device, GpuError, Recipes};
    use std::collections::VecDeque;
    use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
    use std::thread::JoinHandle;

    type Recorded = Result<wgpu::CommandBuffer, GpuError>;

    /// Steps of each kind that are recorded ahead.
    const DEPTH: usize = 2;

    /// Threads that keep recordings in stock. They end with it.
    #[derive(Debug)]
    pub(crate) struct Recorder {
        shared: Arc<Shared>,
        threads: Vec<JoinHandle<()>>,
    }

    #[derive(Debug)]
    struct Shared {
        device: Arc<Device>,
        recipes: Recipes,
        stock: Mutex<Stock>,
        changed: Condvar,
    }

    #[derive(Debug, Default)]
    struct Stock {
        ready: [VecDeque<Recorded>; 2],
        /// Those that are being recorded.
        n_begun: [usize; 2],
        ends: bool,
    }

    impl Shared {
        fn stock(&self) -> MutexGuard<'_, Stock> {
            self.stock.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// What a thread does until the recorder ends.
        fn work(&self) {
            let mut stock = self.stock();
            while !stock.ends {
                let n = |kind: &usize| stock.ready[*kind].len() + stock.n_begun[*kind];
                match [0, 1].into_iter().min_by_key(n).filter(|kind| n(kind) < DEPTH) {
                    None => stock = self.changed.wait(stock).unwrap_or_else(PoisonError::into_inner),
                    Some(kind) => {
                        stock.n_begun[kind] += 1;
                        drop(stock);
                        let recorded = self.recipes[kind].record(&self.device);
                        stock = self.stock();
                        stock.n_begun[kind] -= 1;
                        stock.ready[kind].push_back(recorded);
                        self.changed.notify_all();
                    }
                }
            }
        }
    }

    impl Recorder {
        pub(crate) fn new(device: &Arc<Device>, recipes: Recipes) -> Recorder {
            /// With more, a step waits for the device.
            const MAX_THREADS: usize = 3;

            let (device, stock, changed) = (device.clone(), Mutex::default(), Condvar::new());
            let shared = Arc::new(Shared { device, recipes, stock, changed });
            let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
            let start = |_| {
                let shared = shared.clone();
                std::thread::Builder::new().name("anser recorder".into()).spawn(move || shared.work())
            };
            let threads = (0..n_cores.saturating_sub(1).clamp(1, MAX_THREADS)).filter_map(|i| start(i).ok()).collect();
            Recorder { shared, threads }
        }

        /// The commands of a step of kind 0 or 1. Where none are in stock, the caller records them: so it depends on no thread.
        pub(crate) fn take(&self, kind: usize) -> Recorded {
            let ready = self.shared.stock().ready[kind].pop_front();
            self.shared.changed.notify_all();
            ready.unwrap_or_else(|| self.shared.recipes[kind].record(&self.shared.device))
        }
    }

    impl Drop for Recorder {
        fn drop(&mut self) {
            self.shared.stock().ends = true;
            self.shared.changed.notify_all();
            // A thread that panicked has nothing to say any more.
            self.threads.drain(..).for_each(|thread| drop(thread.join()));
        }
    }
}

/// A browser's worker has one thread.
#[cfg(target_arch = "wasm32")]
mod inline {
    use super::{Arc, Device, GpuError, Recipes};

    #[derive(Debug)]
    pub(crate) struct Recorder {
        device: Arc<Device>,
        recipes: Recipes,
    }

    impl Recorder {
        pub(crate) fn new(device: &Arc<Device>, recipes: Recipes) -> Recorder {
            Recorder { device: device.clone(), recipes }
        }

        /// The commands of a step of kind 0 or 1.
        pub(crate) fn take(&self, kind: usize) -> Result<wgpu::CommandBuffer, GpuError> {
            self.recipes[kind].record(&self.device)
        }
    }
}
