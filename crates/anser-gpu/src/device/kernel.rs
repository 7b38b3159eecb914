//! A compute kernel as plain data: its WGSL files, its constants, and how it uses its bindings.
//!
//! Nothing here touches a device, so every kernel can be validated where there is no GPU.

/// A WGSL file. Files are concatenated into a shader; there is no preprocessor.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Module {
    /// Path below `wgsl/`.
    pub(crate) name: &'static str,
    /// The file's text.
    pub(crate) source: &'static str,
}

/// The [`Module`] at a path below `wgsl/`, compiled in.
macro_rules! wgsl {
    ($path:literal) => {
        &$crate::device::kernel::Module {
            name: $path,
            source: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/wgsl/", $path)),
        }
    };
}
pub(crate) use wgsl;

/// How a kernel uses one of its bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    ReadWrite,
    /// `var<uniform>`
    Uniform,
}

/// One compute pipeline: WGSL files in order, with the values of their `override` constants. Equal specs share one
/// pipeline.
///
/// The text has one entry point, `main`, and at least one `override`: without one, wgpu's Vulkan backend ignores the
/// pipeline's compilation options (loop bounding and zeroing of workgroup memory would stay on).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KernelSpec {
    /// Name in profiles and errors, e.g. `layer_norm`.
    pub(crate) label: &'static str,
    /// Files, concatenated in this order.
    pub(crate) modules: Vec<&'static Module>,
    /// Values of `override` constants, by name.
    pub(crate) constants: Vec<(&'static str, f64)>,
    /// Use of `@group(0) @binding(i)`.
    pub(crate) access: Vec<Access>,
}

impl KernelSpec {
    /// A kernel of these files, without constants and bindings yet.
    pub(crate) fn new(label: &'static str, modules: Vec<&'static Module>) -> KernelSpec {
        KernelSpec { label, modules, constants: vec![], access: vec![] }
    }

    /// Sets an `override` constant.
    pub(crate) fn constant(mut self, name: &'static str, value: f64) -> KernelSpec {
        self.constants.push((name, value));
        self
    }

    /// Declares the bindings.
    pub(crate) fn access(mut self, access: &[Access]) -> KernelSpec {
        self.access = access.to_vec();
        self
    }

    /// The WGSL text of the kernel: its files, one after the other.
    pub(crate) fn source(&self) -> String {
        self.modules.iter().map(|module| module.source).collect()
    }
}
