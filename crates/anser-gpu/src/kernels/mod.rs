//! The kernels, one [`Rule`] each: the file of a rule has the name of the kernel's file or folder in `wgsl/`.

mod activate;
mod bonus_gate;
mod common;
mod embed;
mod gate;
mod head6;
mod head7;
mod key_control;
mod layer_norm;
pub(crate) mod matmul;
mod mix;
mod mixes;
mod norm_bonus_gate;
mod norm_gate;
mod norm_shift;
mod prelude;
mod recurrence;
mod repeat_heads;
mod rms_norm;
pub(crate) mod sample;
mod select;
mod select_norm;
mod target;
mod token_matrix;
mod token_shift;
mod value_residual;
mod wkv4;
mod wkv6;
mod wkv7;

pub(crate) use target::{multiplies_halves, target};

use crate::compile::rule::{Rule, Rules};
use anser_model::Op;

/// All kernels of plans.
pub(crate) static RULES: Rules = Rules { plain, fused: FUSED };

/// Kernels that compute several operations together, the better ones first.
static FUSED: &[&Rule] = &[
    &matmul::shifted::SHIFTED_PRODUCTS,
    &matmul::gated::GATED_PRODUCT,
    &norm_shift::NORM_SHIFT,
    &head7::WITH_LOW_RANK,
    &head7::OF_VALUES,
    &head6::WITH_LOW_RANK,
    &head6::OF_VALUES,
    &mixes::MIXES,
    &select_norm::SELECT_NORM,
];

/// The kernel that computes an operation by itself.
fn plain(op: &Op) -> &'static Rule {
    match op {
        Op::Embed { .. } => &embed::EMBED,
        Op::LayerNorm { .. } => &layer_norm::LAYER_NORM,
        Op::RmsNorm { .. } => &rms_norm::RMS_NORM,
        Op::TokenShift { .. } => &token_shift::TOKEN_SHIFT,
        Op::MatMul { .. } => &matmul::PRODUCTS,
        Op::Activate { .. } => &activate::ACTIVATE,
        Op::ValueResidual { .. } => &value_residual::VALUE_RESIDUAL,
        Op::KeyControl { .. } => &key_control::KEY_CONTROL,
        Op::Wkv7 { .. } => &wkv7::WKV7,
        Op::NormBonusGate { .. } => &norm_bonus_gate::NORM_BONUS_GATE,
        Op::Mix { .. } => &mix::MIX,
        Op::Wkv4 { .. } => &wkv4::WKV4,
        Op::Wkv6 { .. } => &wkv6::WKV6,
        Op::NormGate { .. } => &norm_gate::NORM_GATE,
        Op::BonusGate { .. } => &bonus_gate::BONUS_GATE,
        Op::RepeatHeads { .. } => &repeat_heads::REPEAT_HEADS,
        Op::Gate { .. } => &gate::GATE,
        Op::TokenMatrix { .. } => &token_matrix::TOKEN_MATRIX,
        Op::Select { .. } => &select::SELECT,
    }
}
