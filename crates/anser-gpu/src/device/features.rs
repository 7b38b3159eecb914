//! What kernels can use on a device.

/// What the device's shaders can use, after the kill switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Features {
    /// 16-bit floats in shaders.
    pub(crate) f16: bool,
    /// Subgroup operations; the subgroup size may be any.
    pub(crate) subgroups: bool,
    /// Smallest and largest number of threads in a subgroup.
    pub(crate) subgroup_size: [u32; 2],
    /// 16×16×16 matrix products of f16 into f32, per subgroup.
    pub(crate) coop_f16_16: bool,
    /// Whether products of many tokens round their operands to f16 where there are no such matrices. Tests use this to see, on
    /// any device, what a step does with numbers that are too large for f16.
    pub(crate) halves_in_tiles: bool,
    /// Storage buffers that a kernel can bind.
    pub(crate) max_bindings: u32,
    /// Threads per workgroup.
    pub(crate) max_workgroup_len: u32,
    /// Bytes of workgroup memory.
    pub(crate) max_workgroup_n_bytes: u32,
}
