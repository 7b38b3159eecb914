//! What a device can do at best, measured: the rate of a large copy, and how many cores it has.

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
        let times = self.time_kernel(&kernel, &[&from, &to], &[N_WORKGROUPS; N_RUNS])?;
        Ok(2.0 * n_bytes as f64 / 1e3 / median(&times[1..]))
    }

    /// Cores of the device: how many workgroups that only compute take as long as one. An estimate: the last workgroups leave some
    /// cores idle.
    ///
    /// # Errors
    /// A device without a clock, or a lost one.
    pub(crate) fn count_cores(&self) -> Result<u32, GpuError> {
        /// Several for each core of any device.
        const MANY: u32 = 2048;
        const N_RUNS: usize = 4;

        let out = self.create_buffer("a number", 16, wgpu::BufferUsages::STORAGE)?;
        let kernel = KernelSpec::new("spin", vec![wgsl!("spin.wgsl")])
            .constant("WORKGROUP", f64::from(self.features().max_workgroup_len.min(1024)))
            .access(&[Access::ReadWrite]);
        // The first runs raise the device's clock.
        let counts: Vec<u32> = (0..N_RUNS).flat_map(|_| [MANY, 1]).collect();
        let times = self.time_kernel(&kernel, &[&out], &counts)?;
        let of = |first: usize| -> Vec<f64> { times.iter().skip(2 + first).step_by(2).copied().collect() };
        Ok((f64::from(MANY) * median(&of(1)) / median(&of(0))).round().clamp(1.0, 65536.0) as u32)
    }

    /// Runs a kernel with each of these numbers of workgroups, and returns the times in µs.
    fn time_kernel(
        &self,
        kernel: &KernelSpec,
        buffers: &[&wgpu::Buffer],
        counts: &[u32],
    ) -> Result<Vec<f64>, GpuError> {
        let pipeline = self.pipeline(kernel)?;
        let (layout, _) = self.layouts(&kernel.access);
        let resources = buffers.iter().map(|buffer| buffer.as_entire_binding());
        let entries = (0..).zip(resources).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource });
        let entries: Vec<_> = entries.collect();
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries };
        let what = || format!("binding the kernel {}", kernel.label);
        let bind_group = self.guard(what, || self.inner.create_bind_group(&descriptor))?;
        pollster::block_on(self.time_passes(counts.len(), |run, pass| {
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bind_group, &[]);
            pass.dispatch_workgroups(counts[run], 1, 1);
        }))
    }
}

/// The median of some numbers, of which there is at least one.
fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
