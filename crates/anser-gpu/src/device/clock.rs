//! The device's own clock: how long passes take.

use crate::device::Device;
use crate::error::GpuError;

impl Device {
    /// Runs `n` passes, which `encode` records, one after another, and returns the time of each in µs.
    ///
    /// # Errors
    /// A device without a clock, full memory, or a lost device.
    pub(crate) async fn time_passes(
        &self,
        n: usize,
        mut encode: impl FnMut(usize, &mut wgpu::ComputePass),
    ) -> Result<Vec<f64>, GpuError> {
        /// Passes of one set of timestamps: two of at most 4096 each.
        const PER_SET: usize = 2048;

        if !self.report().timestamps {
            return Err(GpuError::NoTimestamps { adapter: self.report().name.clone() });
        }
        let resolve = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let read = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let tick_us = f64::from(self.queue.get_timestamp_period()) / 1000.0;
        let all: Vec<usize> = (0..n).collect();
        let mut times = vec![];
        for passes in all.chunks(PER_SET) {
            let (count, n_bytes) = (2 * passes.len() as u32, 16 * passes.len() as u64);
            let resolved = self.create_buffer("timestamps", n_bytes, resolve)?;
            let staging = self.create_buffer("timestamps", n_bytes, read)?;
            let record = || {
                let descriptor = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count };
                let query_set = &self.inner.create_query_set(&descriptor);
                let mut encoder = self.inner.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                for (begin, &pass) in (0..).step_by(2).zip(passes) {
                    let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
                        query_set,
                        beginning_of_pass_write_index: Some(begin),
                        end_of_pass_write_index: Some(begin + 1),
                    });
                    let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
                    encode(pass, &mut encoder.begin_compute_pass(&descriptor));
                }
                encoder.resolve_query_set(query_set, 0..count, &resolved, 0);
                encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, n_bytes);
                self.queue.submit([encoder.finish()])
            };
            let submitted = self.watch(|| "timed passes".into(), record)?;
            let mut ticks: Vec<u64> = vec![];
            let take = |bytes: &[u8]| ticks = bytemuck::pod_collect_to_vec(bytes);
            super::mapping::read(self, &staging, n_bytes, submitted, take).await?;
            times.extend(ticks.as_chunks().0.iter().map(|[begin, end]| end.saturating_sub(*begin) as f64 * tick_us));
        }
        Ok(times)
    }
}
