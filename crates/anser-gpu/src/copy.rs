//! The ceiling of everything that moves bytes: a large copy on the device.

use crate::device::Device;
use crate::error::GpuError;

impl Device {
    /// Bytes read plus bytes written of a copy on the device, in 10⁹ a second, the median of five; NaN if the device has no
    /// clock.
    ///
    /// # Errors
    /// If there is no memory for it, or the device is lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn measure_copy(&self) -> Result<f64, GpuError> {
        /// More than any cache holds.
        const N_BYTES: u64 = 512 << 20;
        const N_RUNS: usize = 6;

        if !self.report().timestamps {
            return Ok(f64::NAN);
        }
        let n_bytes = N_BYTES.min(self.report().max_buffer_n_bytes / 16 * 16);
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let (from, to) = (self.create_buffer("copied", n_bytes, usage)?, self.create_buffer("a copy", n_bytes, usage)?);
        let resolve = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = self.create_buffer("timestamps", 16, resolve)?;
        let staging = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let staging = self.create_buffer("timestamps", 16, staging)?;
        let mut rates = vec![];
        for run in 0..N_RUNS {
            let record = || {
                let descriptor = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: 2 };
                let queries = self.inner.create_query_set(&descriptor);
                let mut encoder = self.inner.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                let empty = |encoder: &mut wgpu::CommandEncoder, index| {
                    let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
                        query_set: &queries,
                        beginning_of_pass_write_index: Some(index),
                        end_of_pass_write_index: None,
                    });
                    drop(encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes }));
                };
                empty(&mut encoder, 0);
                encoder.copy_buffer_to_buffer(&from, 0, &to, 0, n_bytes);
                empty(&mut encoder, 1);
                encoder.resolve_query_set(&queries, 0..2, &resolved, 0);
                encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, 16);
                self.queue.submit([encoder.finish()])
            };
            let submission = self.guard(|| "a copy".into(), record)?;
            let mut ticks: Vec<u64> = vec![];
            let take = |bytes: &[u8]| ticks = bytemuck::pod_collect_to_vec(bytes);
            pollster::block_on(crate::mapping::read(self, &staging, 16, submission, take))?;
            let elapsed_ns = ticks[1].saturating_sub(ticks[0]) as f64 * f64::from(self.queue.get_timestamp_period());
            if run > 0 {
                rates.push(2.0 * n_bytes as f64 / elapsed_ns);
            }
        }
        rates.sort_by(f64::total_cmp);
        Ok(rates[rates.len() / 2])
    }
}
