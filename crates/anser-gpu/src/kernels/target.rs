//! Which kernels a kind of steps gets: the choices that all rules share.

use super::matmul;
use crate::compile::target::{Precision, RowClass, Target};
use crate::device::features::Features;
use crate::memory::layout::WeightLayout;

/// The target of steps of these classes of T and O on a device with `features`.
pub(crate) fn target(
    features: &Features,
    weights: &WeightLayout,
    precision: Precision,
    classes: [RowClass; 2],
    one_token_each: bool,
) -> Target {
    let quantized = weights.is_mostly_quantized();
    let max_few = matmul::max_columns(features, precision, quantized);
    let has_few_rows = classes.iter().all(|class| class.0 <= max_few);
    Target {
        features: *features,
        classes,
        one_token_each,
        precision,
        fuses: true,
        has_few_rows,
        // Where values share memory, they lie as products of many tokens read them.
        max_columns: if has_few_rows { max_few } else { matmul::max_columns(features, precision, false) },
        holds: has_few_rows && matmul::holds(classes[0], features, precision),
        keeps_halves: precision != Precision::Exact && matmul::multiplies_halves(features),
        quantized,
        whole_layers: weights.has_whole_layers(),
    }
}

/// Whether products of such steps multiply halves, so that a number may be too large for them.
pub(crate) fn multiplies_halves(target: &Target) -> bool {
    matmul::multiplies_halves(&target.features) && !target.has_few_rows && target.precision != Precision::Exact
}
