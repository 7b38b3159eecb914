//! What a model takes of its device's memory.

use crate::error::GpuError;
use crate::run::executor::Gpu;

/// Bytes that a model takes of its device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryUse {
    /// Weights that every token reads: those that stay, and the ring of those that stream.
    pub weights_n_bytes: u64,
    /// Whether some of them come over the link in every step.
    pub streams: bool,
    /// The embedding table, which only sequences that draw their own tokens have on the device.
    pub table_n_bytes: u64,
    /// States: room for the sequences there are, and for those that come next.
    pub states_n_bytes: u64,
    /// Everything on the device that its allocator handed out, also to other models and for what waits to be read by the
    /// host; `None` if it does not tell.
    pub allocated_n_bytes: Option<u64>,
    /// What the allocator took from the driver for that; `None` if it does not tell.
    pub reserved_n_bytes: Option<u64>,
}

impl MemoryUse {
    /// What is neither weights nor states: values of a step, staging buffers, tables. `None` if the allocator does not tell.
    pub fn scratch_n_bytes(&self) -> Option<u64> {
        let known = self.weights_n_bytes + self.table_n_bytes + self.states_n_bytes;
        self.allocated_n_bytes.map(|all| all.saturating_sub(known))
    }
}

impl Gpu {
    /// What the model takes of the device's memory. Waits until memory is allocated for all weights.
    ///
    /// # Errors
    /// If it could not be.
    pub fn memory(&self) -> Result<MemoryUse, GpuError> {
        let weights = self.weights.get()?;
        let report = self.device.inner.generate_allocator_report();
        // The embedding table is found by the label of its buffers, the weight's name; blocks of layers have another label.
        let is_table = |name: &str| self.plan.weights.iter().any(|weight| weight.name() == name);
        let allocations = report.iter().flat_map(|report| &report.allocations);
        Ok(MemoryUse {
            weights_n_bytes: weights.n_bytes(),
            streams: weights.streams(),
            table_n_bytes: allocations.filter(|found| is_table(&found.name)).map(|found| found.size).sum(),
            states_n_bytes: self.states.n_bytes(),
            allocated_n_bytes: report.as_ref().map(|report| report.total_allocated_bytes),
            reserved_n_bytes: report.as_ref().map(|report| report.total_reserved_bytes),
        })
    }
}
