//! The way to the graphics drivers: one instance for the whole process, which one thread at a time goes through.
//!
//! Drivers load libraries when an instance is made (NVIDIA's those of X11 and EGL, even where nothing is shown) and unload
//! them with the last one. Threads that do so at once crash in there. The instance is kept to the end of the process, so that
//! nothing is unloaded while another thread opens a device; and devices are closed in turn, too.

#[cfg(not(target_arch = "wasm32"))]
use crate::device::per_process::PerProcess;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

/// What adapters are looked for in. OpenGL lacks what the kernels need, so its libraries are not loaded either.
const BACKENDS: wgpu::Backends = wgpu::Backends::PRIMARY;

/// The right to list, open or close devices, which one thread has at a time.
#[derive(Debug)]
pub(crate) struct Turn(());

/// A process's way to the drivers. A forked child makes a new one: threads of its parent may have been on theirs.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug, Default)]
struct Drivers {
    /// Whether a thread has the turn.
    is_taken: Mutex<bool>,
    given_back: Condvar,
    instance: OnceLock<wgpu::Instance>,
}

#[cfg(not(target_arch = "wasm32"))]
static DRIVERS: PerProcess<Drivers> = PerProcess::new();

impl Turn {
    /// Waits until no other thread has it.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn take() -> Turn {
        // A panic elsewhere left nothing half done here.
        let drivers = DRIVERS.get();
        let mut is_taken = drivers.is_taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *is_taken {
            is_taken = drivers.given_back.wait(is_taken).unwrap_or_else(PoisonError::into_inner);
        }
        *is_taken = true;
        Turn(())
    }

    /// A browser has its own order, and nothing may wait there.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn take() -> Turn {
        Turn(())
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Drop for Turn {
    fn drop(&mut self) {
        let drivers = DRIVERS.get();
        *drivers.is_taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        drivers.given_back.notify_one();
    }
}

/// Calls `work` while no other thread lists adapters, opens a device or closes one.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) async fn enter<R>(work: impl AsyncFnOnce(&wgpu::Instance) -> R) -> R {
    let _turn = Turn::take();
    // The future waits for the driver alone, which does not return before it is ready. So the turn is not kept while
    // the caller's executor runs other futures, which may want it too.
    pollster::block_on(work(DRIVERS.get().instance.get_or_init(instance)))
}

/// Calls `work`; a browser has its own order, and nothing may wait there.
#[cfg(target_arch = "wasm32")]
pub(crate) async fn enter<R>(work: impl AsyncFnOnce(&wgpu::Instance) -> R) -> R {
    work(&instance()).await
}

/// Every adapter, in the order of the backends.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) async fn adapters(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    instance.enumerate_adapters(BACKENDS).await
}

/// The adapter that a browser has for work that is to be fast; it shows no other one.
#[cfg(target_arch = "wasm32")]
pub(crate) async fn adapters(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    let power_preference = wgpu::PowerPreference::HighPerformance;
    let options = wgpu::RequestAdapterOptions { power_preference, ..wgpu::RequestAdapterOptions::default() };
    // There is none where it cannot be had.
    instance.request_adapter(&options).await.into_iter().collect()
}

fn instance() -> wgpu::Instance {
    let flags = match cfg!(debug_assertions) {
        true => wgpu::InstanceFlags::VALIDATION | wgpu::InstanceFlags::DEBUG,
        false => wgpu::InstanceFlags::empty(),
    };
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: BACKENDS,
        flags,
        // Drivers that over-commit would rather move weights to host memory than fail; an error is better, since the
        // caller can fall back to the CPU.
        memory_budget_thresholds: wgpu::MemoryBudgetThresholds {
            for_resource_creation: Some(97),
            for_device_loss: None,
        },
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}
