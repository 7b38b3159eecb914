//! Switches in the environment: one rule for every `ANSER_*` variable that is either on or off.

use crate::error::GpuError;

/// What turns a switch on, in lower case.
const ON: [&str; 4] = ["1", "true", "yes", "on"];
/// What turns a switch off, in lower case.
const OFF: [&str; 4] = ["0", "false", "no", "off"];

/// Whether the environment variable `name` is on: 1, true, yes, on, or 0, false, no, off, in any case. A variable that is
/// empty, or not set, is off.
///
/// # Errors
/// [`GpuError::Switch`] for every other value.
pub fn switch(name: &'static str) -> Result<bool, GpuError> {
    let Some(value) = std::env::var_os(name) else { return Ok(false) };
    let found = value.to_string_lossy();
    let is_one_of = |words: &[&str]| words.iter().any(|word| found.eq_ignore_ascii_case(word));
    if is_one_of(&ON) {
        Ok(true)
    } else if found.is_empty() || is_one_of(&OFF) {
        Ok(false)
    } else {
        Err(GpuError::Switch { name, found: found.into_owned() })
    }
}

/// What the environment switches off, read when a device is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Switches {
    /// `ANSER_GPU_NO_F16`: no 16-bit floats in shaders.
    pub(crate) no_f16: bool,
    /// `ANSER_GPU_NO_SUBGROUPS`: no operations across a subgroup.
    pub(crate) no_subgroups: bool,
    /// `ANSER_GPU_NO_COOPMAT`: no cooperative matrices.
    pub(crate) no_coop_matrix: bool,
    /// `ANSER_GPU_PLAIN_MATRICES`: plain arithmetic in place of cooperative matrices.
    pub(crate) plain_matrices: bool,
    /// `ANSER_GPU_NO_DRAWING`: the host draws the tokens.
    pub(crate) no_drawing: bool,
    /// `ANSER_GPU_NO_TUNING`: kernels run in the shapes that they have without measurements, and nothing is measured.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) no_tuning: bool,
}

impl Switches {
    /// Reads all of them, so that a misspelt value is told whatever the adapter can do.
    pub(crate) fn read() -> Result<Switches, GpuError> {
        Ok(Switches {
            no_f16: switch("ANSER_GPU_NO_F16")?,
            no_subgroups: switch("ANSER_GPU_NO_SUBGROUPS")?,
            no_coop_matrix: switch("ANSER_GPU_NO_COOPMAT")?,
            plain_matrices: switch("ANSER_GPU_PLAIN_MATRICES")?,
            no_drawing: switch("ANSER_GPU_NO_DRAWING")?,
            #[cfg(not(target_arch = "wasm32"))]
            no_tuning: switch("ANSER_GPU_NO_TUNING")?,
        })
    }
}
