//! Adapters: what fine-tuning changed of a model's weights, in a file of its own, and the merging of it into them.
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
//! [`merges`] resolves the names and checks the shapes of everything before anything is computed; a [`Merge`] computes one tensor. Merges are
//! independent, so that the caller may compute them in threads.

mod merge;
mod names;
mod read;

pub use merge::Merge;

use crate::error::ModelError;
use anser_format::ModelFile;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An open adapter, and how much of it is merged.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// The adapter: `.pth` of RWKV-PEFT, `.st` of web-rwkv, GGUF, or Hugging Face's PEFT.
    pub file: Arc<ModelFile>,
    /// The pairs that PiSSA began with, whose product is taken away.
    pub init: Option<Arc<ModelFile>>,
    /// s: 1 merges the adapter as it was trained, 0.5 half of it.
    pub scale: f32,
    /// α, where the file does not say it.
    pub alpha: Option<f32>,
}

/// What becomes of the tensors of `base` when `adapters` are merged into it, one after another. Tensors that no adapter changes are not among
/// them.
///
/// # Errors
/// If `base` is no model that can be run; a tensor of an adapter that is not understood, has another shape than the model's, or lacks its
/// counterpart; an α that neither the file nor the caller names, or both do.
pub fn merges(base: &Arc<ModelFile>, adapters: &[Adapter]) -> Result<Vec<Merge>, ModelError> {
    let names = names::Names::of(base)?;
    let mut merges: BTreeMap<String, Merge> = BTreeMap::new();
    for adapter in adapters {
        for (target, change) in read::changes(&names, adapter)? {
            let merge = merges.entry(target.tensor.clone()).or_insert_with(|| Merge::new(base, &target));
            merge.push(&target, change);
        }
    }
    Ok(merges.into_values().collect())
}
