//! The ceiling of everything that moves bytes: a large copy on the device.

use super::kernel::{Access, KernelSpec, wgsl};
use crate::device::Device;
use crate::error::GpuError;

impl Device {
    /// Bytes read plus bytes written of a copy on the device, in 10⁹ a second, the median of five; NaN if the device has no
    /// clock.
    ///
    /// # Errors
    /// If there is no memory for it, or the device is lost.
    pub fn measure_copy(&self) -> Result<f64, GpuError> {
        /// Together 512 MiB, more than any cache holds, where buffers may be so large.
        const WORKGROUP: u32 = 256;
        const N_WORKGROUPS: u32 = 32_768;
        const MAX_EACH: u64 = 4;
        const N_RUNS: usize = 6;

        if !self.report().timestamps {
            return Ok(f64::NAN);
        }
        let unit = 16 * u64::from(WORKGROUP * N_WORKGROUPS);
        let largest = self.report().max_buffer_n_bytes.min(self.report().max_binding_n_bytes);
        let n_each = (largest / unit).min(MAX_EACH);
        let n_bytes = n_each * unit;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let (from, to) = (self.create_buffer("copied", n_bytes, usage)?, self.create_buffer("a copy", n_bytes, usage)?);
        let kernel = KernelSpec::new("copy", vec![wgsl!("copy.wgsl")])
            .constant("WORKGROUP", f64::from(WORKGROUP))
            .constant("N_WORKGROUPS", f64::from(N_WORKGROUPS))
            .constant("N_EACH", n_each as f64)
            .access(&[Access::Read, Access::ReadWrite]);
        let pipeline = self.pipeline(&kernel)?;
        let (layout, _) = self.layouts(&kernel.access);
        let entries = [&from, &to].map(|buffer| buffer.as_entire_binding());
        let entry = |(binding, resource)| wgpu::BindGroupEntry { binding, resource };
        let entries: Vec<_> = (0..).zip(entries).map(entry).collect();
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries };
        let bind_group =
            self.guard(|| "binding the kernel copy".into(), || self.inner.create_bind_group(&descriptor))?;
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
                let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
                    query_set: &queries,
                    beginning_of_pass_write_index: Some(0),
                    end_of_pass_write_index: Some(1),
                });
                let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
                let mut pass = encoder.begin_compute_pass(&descriptor);
                pass.set_pipeline(&pipeline);
                pass.set_bind_group(0, &bind_group, &[]);
                pass.dispatch_workgroups(N_WORKGROUPS, 1, 1);
                drop(pass);
                encoder.resolve_query_set(&queries, 0..2, &resolved, 0);
                encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, 16);
                self.queue.submit([encoder.finish()])
            };
            let submission = self.guard(|| "a copy".into(), record)?;
            let mut ticks: Vec<u64> = vec![];
            let take = |bytes: &[u8]| ticks = bytemuck::pod_collect_to_vec(bytes);
            pollster::block_on(crate::device::mapping::read(self, &staging, 16, submission, take))?;
            let elapsed_ns = ticks[1].saturating_sub(ticks[0]) as f64 * f64::from(self.queue.get_timestamp_period());
            if run > 0 {
                rates.push(2.0 * n_bytes as f64 / elapsed_ns);
            }
        }
        rates.sort_by(f64::total_cmp);
        Ok(rates[rates.len() / 2])
    }
}
