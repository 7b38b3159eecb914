//! What was measured on a device: see [`Tuning`].

use std::collections::BTreeMap;

/// The shapes that kernels run in where measurements chose them, by what they were chosen for, and the device's size.
///
/// Both are text that says what it means. A shape is used only if it is among those that this version's kernel has for the
/// device, so that a file of another version, or a damaged one, can do no harm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// Cores of the device, if they were counted.
    pub(crate) n_cores: Option<u32>,
    /// The candidate for each key.
    pub(crate) chosen: BTreeMap<String, String>,
}
