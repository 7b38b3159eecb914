//! Adapters: what fine-tuning changed of a model's weights, in a file of its own, and the merging of it into them, or the keeping of its
//! low-rank pairs beside them.
//!
//! | kind | tensors of a matrix W `[out, in]` | W becomes |
//! |---|---|---|
//! | LoRA | A `[R, in]`, B `[out, R]` | W + s·α/R · B·A |
//! | PiSSA: LoRA with the pair that it began with | A, B and A₀, B₀ | W + s · (B·A − B₀·A₀) |
//! | Bone | D `[R, out]` | W\[o, i\] + s · D\[i mod R, o\] |
//! | Bat | D `[in/R, R, R]`, one for each column b of blocks `[R, R]` | W_ab + s · (W_ab·D_b + D_b) |
//! | the tensor itself | V of W's shape | W + s · (V − W) |
//!
//! s is the caller's scale, 1 unless said otherwise. α is part of how the adapter was trained; RWKV-PEFT and web-rwkv do not write it down, so
//! the caller names it. The rules are those of RWKV-PEFT's merging scripts, of web-rwkv's `LoraBlend`, of llama.cpp and of Hugging Face's
//! PEFT; the first, second, third and last were held to logits of merged weights.
//!
//! A matrix that nothing but LoRA and PiSSA change need not be merged: the model can compute W·x + B·(A·x), with the pairs of all adapters in
//! one, A `[ΣR, in]` and B `[out, ΣR]`, and s·α/R in B. [`Form`] says where that is done.
//!
//! [`changes`] resolves the names and checks the shapes of everything before anything is computed; a [`Merge`] computes one tensor, a
//! [`LowRank`] one pair. They are independent, so that the caller may compute them in threads.

mod low_rank;
mod merge;
mod names;
mod read;

pub use low_rank::LowRank;
pub use merge::Merge;

use crate::error::ModelError;
use anser_format::ModelFile;
use names::Target;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What becomes of an adapter's low-rank pairs. Where several adapters change one matrix, it is merged if one of them is to be; changes
/// that are no pairs, and those of embedding tables, are always merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Beside quantized matrices, if they take fewer bytes than these; merged into others.
    #[default]
    Fitting,
    /// Merged into all matrices.
    Merged,
    /// Beside all matrices, so that models with other adapters can share these.
    Beside,
}

/// What adapters make of a model: the names of no tensor are in both lists.
#[derive(Debug, Clone)]
pub struct Changes {
    /// The tensors that others stand for.
    pub merges: Vec<Merge>,
    /// The matrices that stay as they are, with a pair beside them.
    pub beside: Vec<LowRank>,
}

/// An open adapter, and how much of it counts.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// The adapter: `.pth` of RWKV-PEFT, `.st` of web-rwkv, GGUF, or Hugging Face's PEFT.
    pub file: Arc<ModelFile>,
    /// The pairs that PiSSA began with, whose product is taken away.
    pub init: Option<Arc<ModelFile>>,
    /// s: 1 is the adapter as it was trained, 0.5 half of it.
    pub scale: f32,
    /// α, where the file does not say it.
    pub alpha: Option<f32>,
    /// What becomes of its pairs.
    pub form: Form,
}

/// What becomes of the tensors of `base` with `adapters`, one after another. Tensors that no adapter changes are not among them.
///
/// # Errors
/// If `base` is no model that can be run, or has adapters already; a tensor of an adapter that is not understood, has another shape than the model's, or lacks its
/// counterpart; an α that neither the file nor the caller names, or both do.
pub fn changes(base: &Arc<ModelFile>, adapters: &[Adapter]) -> Result<Changes, ModelError> {
    if let Some(variant) = base.variant() {
        let problem = format!("it has adapters already ({variant}); name all of them at once");
        return Err(ModelError::Adapter { file: base.name().into(), problem });
    }
    let names = names::Names::of(base)?;
    let mut merges: BTreeMap<String, (Target, Merge)> = BTreeMap::new();
    let mut forms: BTreeMap<String, Vec<Form>> = BTreeMap::new();
    for adapter in adapters {
        for (target, change) in read::changes(&names, adapter)? {
            forms.entry(target.tensor.clone()).or_default().push(adapter.form);
            let new = || (target.clone(), Merge::new(base, &target));
            merges.entry(target.tensor.clone()).or_insert_with(new).1.push(&target, change);
        }
    }
    let mut changes = Changes { merges: vec![], beside: vec![] };
    for (tensor, (target, merge)) in merges {
        let pair = LowRank::of(base, &target, &merge).filter(|pair| {
            let takes_less = || pair.takes_less_than_quantized();
            let may_stay = |form: &Form| match form {
                Form::Fitting => takes_less(),
                Form::Merged => false,
                Form::Beside => true,
            };
            names.is_only_multiplied(&tensor) && forms.get(&tensor).is_some_and(|forms| forms.iter().all(may_stay))
        });
        match pair {
            Some(pair) => changes.beside.push(pair),
            None => changes.merges.push(merge),
        }
    }
    Ok(changes)
}

/// The names of the pair A, B beside the matrix that BlinkDL calls `name`.
pub(crate) fn pair_names(name: &str) -> [String; 2] {
    [format!("{name}.lora_a"), format!("{name}.lora_b")]
}
