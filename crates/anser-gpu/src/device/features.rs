//! What kernels can use on a device.

/// How kernels multiply matrices of 16×16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Matrices {
    /// By the device's matrix hardware.
    Cooperative,
    /// By plain arithmetic in its place: slow, so that tests can run the same kernels on any device.
    Plain,
}

impl Matrices {
    /// What a device with these features uses. `plain`: whether plain arithmetic is wanted.
    pub(crate) fn of(f16: bool, cooperative: bool, plain: bool) -> Option<Matrices> {
        match (plain && f16, cooperative) {
            (true, _) => Some(Matrices::Plain),
            (false, true) => Some(Matrices::Cooperative),
            (false, false) => None,
        }
    }
}

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
    pub(crate) matrices: Option<Matrices>,
    /// Cores, each of which runs workgroups of its own (streaming multiprocessors, compute units): counted by `anser tune`, else
    /// what is usual.
    pub(crate) n_cores: u32,
    /// Storage buffers that a kernel can bind.
    pub(crate) max_bindings: u32,
    /// Threads per workgroup.
    pub(crate) max_workgroup_len: u32,
    /// Bytes of workgroup memory.
    pub(crate) max_workgroup_n_bytes: u32,
}

impl Features {
    /// This number of workgroups or threads for each of the device's cores, rounded.
    pub(crate) fn per_core(&self, n: f64) -> u32 {
        (n * f64::from(self.n_cores)).round() as u32
    }

    /// Threads that share a matrix of 16×16; `None` if kernels cannot multiply such matrices, or if subgroups have no fixed size.
    pub(crate) fn matrix_subgroup_len(&self) -> Option<u32> {
        /// What most devices with matrix hardware have.
        const PLAIN_LEN: u32 = 32;

        let [smallest, largest] = self.subgroup_size;
        match self.matrices? {
            Matrices::Cooperative => (smallest == largest).then_some(largest),
            Matrices::Plain => Some(PLAIN_LEN),
        }
    }
}
