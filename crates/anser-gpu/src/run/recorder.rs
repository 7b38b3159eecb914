//! The commands of steps that repeat, recorded ahead by threads of their own: a dispatch takes some 5 µs to record, a small
//! model's less to run.

use super::buffers::Sizes;
use super::program::Bound;
use crate::device::Device;
use crate::error::GpuError;
use std::sync::Arc;

/// A step that is submitted again and again.
#[derive(Debug)]
pub(crate) struct RepeatedStep {
    /// What it runs, pass by pass.
    pub(crate) passes: Vec<Vec<Bound>>,
    pub(crate) sizes: Sizes,
    /// What is copied at the end, where to, and how many bytes.
    pub(crate) copy: (wgpu::Buffer, wgpu::Buffer, u64),
}

impl RepeatedStep {
    fn record(&self, device: &Device) -> Result<wgpu::CommandBuffer, GpuError> {
        let record = || {
            let descriptor = wgpu::CommandEncoderDescriptor { label: Some("a repeated step") };
            let mut encoder = device.inner.create_command_encoder(&descriptor);
            for bound in &self.passes {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                bound.iter().for_each(|bound| bound.encode(&mut pass, self.sizes));
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

/// Two steps that are submitted in turn: they write to buffers of their own, so that the host can read those of one while the
/// device runs the other.
type Steps = [RepeatedStep; 2];

#[cfg(not(target_arch = "wasm32"))]
mod threads {
    use super::{Arc, Device, GpuError, Steps};
    use std::collections::VecDeque;
    use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
    use std::thread::JoinHandle;

    type Commands = Result<wgpu::CommandBuffer, GpuError>;

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
        steps: Steps,
        stock: Mutex<Stock>,
        changed: Condvar,
    }

    #[derive(Debug, Default)]
    struct Stock {
        ready: [VecDeque<Commands>; 2],
        /// Steps of each kind that threads are recording.
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
                        let recorded = self.steps[kind].record(&self.device);
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
        pub(crate) fn new(device: &Arc<Device>, steps: Steps) -> Recorder {
            /// With three threads recording keeps up with the device.
            const MAX_THREADS: usize = 3;

            let (device, stock, changed) = (device.clone(), Mutex::default(), Condvar::new());
            let shared = Arc::new(Shared { device, steps, stock, changed });
            let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
            let start = |_| {
                let shared = shared.clone();
                std::thread::Builder::new().name("anser recorder".into()).spawn(move || shared.work())
            };
            let threads = (0..n_cores.saturating_sub(1).clamp(1, MAX_THREADS)).filter_map(|i| start(i).ok()).collect();
            Recorder { shared, threads }
        }

        /// The commands of a step of kind 0 or 1. Where none are in stock, the caller records them: so it depends on no thread.
        pub(crate) fn take(&self, kind: usize) -> Commands {
            let ready = self.shared.stock().ready[kind].pop_front();
            self.shared.changed.notify_all();
            ready.unwrap_or_else(|| self.shared.steps[kind].record(&self.shared.device))
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
    use super::{Arc, Device, GpuError, Steps};

    #[derive(Debug)]
    pub(crate) struct Recorder {
        device: Arc<Device>,
        steps: Steps,
    }

    impl Recorder {
        pub(crate) fn new(device: &Arc<Device>, steps: Steps) -> Recorder {
            Recorder { device: device.clone(), steps }
        }

        /// The commands of a step of kind 0 or 1.
        pub(crate) fn take(&self, kind: usize) -> Result<wgpu::CommandBuffer, GpuError> {
            self.steps[kind].record(&self.device)
        }
    }
}
