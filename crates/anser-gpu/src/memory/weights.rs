//! The weights of a plan on a device: their memory, and what makes them resident.

use crate::device::Device;
use crate::device::pipelines::Ahead;
use crate::error::GpuError;
use crate::memory::layout::MatrixKinds;
use crate::memory::order::{Order, Placement};
use crate::memory::residency::Residency;
use crate::memory::upload::{Chunk, STAGING_N_BYTES};
use crate::memory::upload_plan::{OnProgress, UploadPlan};
use anser_model::{Plan, WeightId};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

pub(crate) use crate::memory::layout::{WeightLayout, WeightPlace};

/// How much of a device weights may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryLimits {
    pub(crate) max_buffer_n_bytes: u64,
    pub(crate) alignment: u64,
    /// Whether kernels read matrices in panels.
    pub(crate) reads_panels: bool,
    /// `None` means as much as there is.
    pub(crate) budget: Option<u64>,
    /// What the device is treated as having.
    pub(crate) device_n_bytes: Option<u64>,
}

impl MemoryLimits {
    /// How weights lie in it, and which of them stay.
    ///
    /// # Errors
    /// If the budget is too small.
    fn plan(&self, plan: &Plan, kinds: &MatrixKinds, adapter: &str) -> Result<(WeightLayout, Order), GpuError> {
        let layout = WeightLayout::new(plan, kinds, self.max_buffer_n_bytes, self.alignment);
        let budget = self.budget.unwrap_or(u64::MAX);
        if layout.n_bytes() <= budget {
            let order = Order::resident(layout.sizes());
            return Ok((layout, order));
        }
        // The last block may be larger than layers are: in buffers of their size it needs no larger slots.
        let (last, layers) = layout.blocks.split_last().map_or((&[][..], &[][..]), |(l, rest)| (&l[..], rest));
        let largest = layers.iter().flatten().chain(last.iter().filter(|_| layers.is_empty())).copied().max();
        let max_n_bytes = self.max_buffer_n_bytes.min(largest.unwrap_or(u64::MAX));
        let layout = WeightLayout::new(plan, kinds, max_n_bytes, self.alignment);
        // A dispatch may need all of a layer, but one part of the last block.
        let n_layers = layout.blocks.len().saturating_sub(1).max(1);
        let n_together = layout.blocks.iter().take(n_layers).map(Vec::len).max().unwrap_or(1);
        let order = Order::within(budget, layout.sizes(), n_together).ok_or_else(|| GpuError::Budget {
            adapter: adapter.into(),
            budget,
            least: Order::least(&layout.sizes(), n_together),
        })?;
        Ok((layout, order))
    }
}

impl MemoryLimits {
    /// Bytes that the weights of `plan` take in it.
    ///
    /// # Errors
    /// If the budget is too small.
    pub(crate) fn n_bytes_needed(&self, plan: &Plan, adapter: &str) -> Result<u64, GpuError> {
        self.plan(plan, &MatrixKinds::of(plan, self.reads_panels), adapter).map(|(_, order)| order.n_bytes())
    }
}

/// The weights of a plan on a device.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) layout: WeightLayout,
    order: Order,
    /// The buffers of each block; streamed ones share memory.
    blocks: Vec<Vec<wgpu::Buffer>>,
    pub(crate) residency: Residency,
    /// Whether the device had no room for all of them, without a budget of the caller's.
    is_short: bool,
    /// Ends with the weights.
    _ahead: Ahead,
}

/// What loading needs to know.
pub(crate) struct Request {
    pub(crate) plan: Arc<Plan>,
    pub(crate) device: Arc<Device>,
    pub(crate) limits: MemoryLimits,
    pub(crate) on_progress: Option<OnProgress>,
}

impl Request {
    /// The layout of the weights, and which of them stay, within `budget`.
    ///
    /// # Errors
    /// If the budget is too small.
    fn lay_out(&self, budget: Option<u64>, kinds: &MatrixKinds) -> Result<(WeightLayout, Order), GpuError> {
        MemoryLimits { budget, ..self.limits }.plan(&self.plan, kinds, &self.device.report().name)
    }

    fn kinds(&self) -> MatrixKinds {
        MatrixKinds::of(&self.plan, self.limits.reads_panels)
    }

    /// Whether the budget is large enough.
    fn check(&self) -> Result<(), GpuError> {
        match self.limits.budget {
            Some(_) => self.lay_out(self.limits.budget, &self.kinds()).map(drop),
            None => Ok(()),
        }
    }

    /// Allocates memory for the weights, each block's when the one before is being uploaded already. Without a budget, if
    /// the device has too little memory, as much of it is used as it has. `compile` is called once the layout is known.
    async fn load(&self, compile: impl FnOnce(&WeightLayout) -> Ahead, stop: &AtomicBool) -> Result<Weights, GpuError> {
        let kinds = self.kinds();
        let (mut layout, mut order) = self.lay_out(self.limits.budget, &kinds)?;
        let ahead = compile(&layout);
        let (mut granted, mut is_short, mut tries_least) = (0, false, false);
        let (residency, memory) = loop {
            match self.allocate(&layout, &order, &mut granted, stop).await {
                Ok(loading) => break loading,
                Err(GpuError::OutOfMemory { .. }) if self.limits.budget.is_none() => {
                    // The device frees the dropped buffers when it is polled; an eighth of them stays for states and steps, if that
                    // is possible.
                    self.device.wait_async().await?;
                    (layout, order) = match self.lay_out(Some(granted - granted.div_ceil(8)), &kinds) {
                        Err(GpuError::Budget { least, .. }) if !tries_least => {
                            tries_least = true;
                            self.lay_out(Some(least), &kinds)?
                        }
                        laid_out => laid_out?,
                    };
                    is_short = true;
                }
                Err(error) => return Err(error),
            }
        };
        let blocks = layout.group(memory.into_iter());
        Ok(Weights { layout, order, blocks, residency, is_short, _ahead: ahead })
    }

    /// Starts uploading, and allocates the memory of each buffer. `granted` becomes the number of bytes that the device
    /// granted before it refused.
    async fn allocate(
        &self,
        layout: &WeightLayout,
        order: &Order,
        granted: &mut u64,
        stop: &AtomicBool,
    ) -> Result<(Residency, Vec<wgpu::Buffer>), GpuError> {
        let chunks = layout.parts(&self.plan).into_iter().map(|parts| Chunk::of(&self.plan, parts, STAGING_N_BYTES));
        let mut residency = Residency::start(UploadPlan {
            plan: self.plan.clone(),
            device: self.device.clone(),
            order: order.clone(),
            chunks: chunks.collect(),
            blocks: layout.blocks.iter().enumerate().flat_map(|(i, b)| b.iter().map(move |_| i)).collect(),
            on_progress: self.on_progress.clone(),
        })?;
        *granted = 0;
        let mut slots = vec![];
        for size in order.slots() {
            slots.push(self.create(size, granted, stop).await?);
        }
        let mut memory = vec![];
        for buffer in 0..order.n_buffers() {
            let target = match order.placement(buffer) {
                Placement::Resident => self.create(order.size(buffer), granted, stop).await?,
                Placement::Slot(slot) => slots[slot].clone(),
            };
            residency.provide(target.clone()).await?;
            memory.push(target);
        }
        Ok((residency, memory))
    }

    /// A buffer of weights, which adds to what was `granted`.
    async fn create(&self, size: u64, granted: &mut u64, stop: &AtomicBool) -> Result<wgpu::Buffer, GpuError> {
        if stop.load(Ordering::Relaxed) {
            return Err(GpuError::Cancelled);
        }
        if self.limits.device_n_bytes.is_some_and(|most| *granted + size > most) {
            let adapter = self.device.report().name.clone();
            return Err(GpuError::OutOfMemory { adapter, what: "weights".into() });
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let buffer = self.device.create_buffer_async("weights", size, usage).await?;
        *granted += size;
        Ok(buffer)
    }
}

/// Weights for which memory is being allocated.
#[derive(Debug)]
pub(crate) struct Loading {
    shared: Arc<Shared>,
    #[cfg(not(target_arch = "wasm32"))]
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    weights: OnceLock<Result<Weights, GpuError>>,
    stop: AtomicBool,
}

impl Loading {
    /// Starts; `compile` is called once the layout is known.
    ///
    /// # Errors
    /// If the budget is too small.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) async fn start(
        request: Request,
        compile: impl FnOnce(&WeightLayout) -> Ahead + Send + 'static,
    ) -> Result<Loading, GpuError> {
        request.check()?;
        let (shared, device) = (Arc::new(Shared::default()), request.device.clone());
        let loading = shared.clone();
        let load = move || {
            let load = || pollster::block_on(request.load(compile, &loading.stop));
            // Whoever waits must hear of a panic, too.
            let loaded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(load));
            let loaded = loaded.unwrap_or_else(|_| Err(request.device.failed("loading", "a thread panicked")));
            // It is set here only.
            let _ = loading.weights.set(loaded);
        };
        let thread = std::thread::Builder::new().name("anser-load".into()).spawn(load);
        let thread = thread.map_err(|e| device.failed("starting a thread", &e.to_string()))?;
        Ok(Loading { shared, thread: Some(thread) })
    }

    /// Loads; `compile` is called once the layout is known.
    ///
    /// # Errors
    /// If the weights do not fit, or the device is lost.
    #[cfg(target_arch = "wasm32")]
    pub(crate) async fn start(
        request: Request,
        compile: impl FnOnce(&WeightLayout) -> Ahead,
    ) -> Result<Loading, GpuError> {
        request.check()?;
        let shared = Arc::new(Shared::default());
        // It is set here only.
        let _ = shared.weights.set(Ok(request.load(compile, &shared.stop).await?));
        Ok(Loading { shared })
    }

    /// The weights, once there is memory for them.
    ///
    /// # Errors
    /// If the device's memory does not hold what is needed at once, or is lost.
    pub(crate) fn get(&self) -> Result<&Weights, GpuError> {
        self.shared.weights.wait().as_ref().map_err(GpuError::clone)
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Drop for Loading {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // A thread that panicked has nothing more to say.
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

impl Weights {
    /// Whether some weights are uploaded again in every step.
    pub(crate) fn streams(&self) -> bool {
        self.order.streams()
    }

    /// Bytes that they take on the device.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.order.n_bytes()
    }

    /// One line for each thing about the weights that a person may wonder at.
    pub(crate) fn notices(&self, plan: &Plan) -> Vec<String> {
        let mut notices = self.layout.notices(plan);
        if self.order.streams() {
            let why = if self.is_short { "the device's memory holds no more" } else { "as asked for" };
            let mib = |n_bytes: u64| n_bytes.div_ceil(1 << 20);
            let (held, total) = (mib(self.order.n_bytes()), mib(self.order.total_n_bytes()));
            notices.push(format!("{held} of {total} MiB of weights at a time, the rest streams in every step: {why}"));
        }
        notices
    }

    /// The vectors of an operation from `first` to `last`; `None` if there are none.
    pub(crate) fn vectors(&self, first: WeightId, last: WeightId) -> Option<wgpu::BufferBinding<'_>> {
        self.bind(self.layout.vectors(first, last)?)
    }

    /// One row range of a matrix; `None` if there is none.
    pub(crate) fn matrix(&self, id: WeightId, split: usize) -> Option<wgpu::BufferBinding<'_>> {
        self.bind(self.layout.place(id, split)?)
    }

    /// The whole buffer that `place` is in, for kernels that reach several weights of a layer by their offsets.
    pub(crate) fn block(&self, place: WeightPlace) -> Option<wgpu::BufferBinding<'_>> {
        let buffer = self.blocks.get(place.block)?.get(place.buffer)?;
        Some(wgpu::BufferBinding { buffer, offset: 0, size: None })
    }

    fn bind(&self, place: WeightPlace) -> Option<wgpu::BufferBinding<'_>> {
        let (offset, size) = (place.offset, wgpu::BufferSize::new(place.n_bytes));
        Some(wgpu::BufferBinding { offset, size, ..self.block(place)? })
    }
}
