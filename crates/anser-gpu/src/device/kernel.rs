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

/// One compute pipeline: WGSL files in order, with their arguments and the values of their `override` constants. Equal specs share one
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
    /// Where its operands lie.
    pub(crate) arguments: Vec<Argument>,
    /// Values of `override` constants, by name.
    pub(crate) constants: Vec<(&'static str, f64)>,
    /// Use of `@group(0) @binding(i)`.
    pub(crate) access: Vec<Access>,
}

/// An argument of a kernel: a constant of the shader that says where operands lie. Its value is the only WGSL that is made by
/// code, one line for each argument: `const OUT = Place(0u, 4u, 8u, 12u);` or `const JOBS = array<Job, 2>(Job(…), Job(…));`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Argument {
    name: &'static str,
    /// The WGSL struct, all of whose fields are `u32`.
    of: &'static str,
    /// The fields of one struct after the other.
    words: Vec<u32>,
    /// Structs of an array; `None` if the argument is a single struct.
    len: Option<usize>,
}

impl Argument {
    /// A struct named `of` with these fields.
    pub(crate) fn one(name: &'static str, of: &'static str, words: &[u32]) -> Argument {
        Argument { name, of, words: words.to_vec(), len: None }
    }

    /// An array of structs named `of` with `N` fields each, filled up to `len` with structs of zeros.
    pub(crate) fn array<const N: usize>(
        name: &'static str,
        of: &'static str,
        items: impl IntoIterator<Item = [u32; N]>,
        len: usize,
    ) -> Argument {
        let mut words: Vec<u32> = items.into_iter().flatten().collect();
        words.resize(N * len, 0);
        Argument { name, of, words, len: Some(len) }
    }

    /// Its line of WGSL.
    fn source(&self) -> String {
        let Argument { name, of, words, len } = self;
        let fields = |words: &[u32]| words.iter().map(|word| format!("{word}u")).collect::<Vec<_>>().join(", ");
        match len {
            None => format!("const {name} = {of}({});\n", fields(words)),
            Some(len) => {
                let each = words.chunks(words.len().div_ceil((*len).max(1)).max(1));
                let items: Vec<String> = each.map(|words| format!("{of}({})", fields(words))).collect();
                format!("const {name} = array<{of}, {len}>({});\n", items.join(", "))
            }
        }
    }
}

impl KernelSpec {
    /// A kernel of these files, without arguments, constants and bindings yet.
    pub(crate) fn new(label: &'static str, modules: Vec<&'static Module>) -> KernelSpec {
        KernelSpec { label, modules, arguments: vec![], constants: vec![], access: vec![] }
    }

    /// Adds an argument.
    pub(crate) fn argument(mut self, argument: Argument) -> KernelSpec {
        self.arguments.push(argument);
        self
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

    /// The WGSL text of the kernel: its files, one after the other, and a line for each argument. Chromium requires that a text which uses
    /// subgroups says so first; naga, which compiles the text elsewhere, refuses that.
    pub(crate) fn source(&self) -> String {
        let says_so = cfg!(target_arch = "wasm32") && self.uses_subgroups();
        let first = says_so.then(|| "enable subgroups;\n".to_string());
        let files = self.modules.iter().map(|module| module.source.to_string());
        first.into_iter().chain(files).chain(self.arguments.iter().map(Argument::source)).collect()
    }

    /// Whether the text uses operations or built-in values of subgroups.
    pub(crate) fn uses_subgroups(&self) -> bool {
        self.modules.iter().any(|module| module.source.contains("@builtin(subgroup"))
    }
}
