//! Adapters (LoRA and its kin) that a model is loaded with: merged into the weights, or beside them as low-rank products.

use crate::error::Error;
use anser_format::{Addition, ModelFile, Replacement};
use anser_model::ModelError;
use anser_model::lora::{self, Adapter, Changes, LowRank, Merge};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What tells an adapter of Hugging Face's PEFT, beside its settings.
const PEFT_ADAPTERS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

pub use anser_model::lora::Form as LoraForm;

/// An adapter to load a model with: a `.pth` of RWKV-PEFT (LoRA, PiSSA, Bone, Bat), a `.st` of web-rwkv, a GGUF adapter, or a
/// folder of Hugging Face's PEFT. As text: `FILE`, `FILE:SCALE`, `FILE:alpha=A`, `FILE:init=INIT`, `FILE:merge`, `FILE:beside`, or several of
/// them, as in `FILE:0.5:alpha=32`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// The adapter's file, or the folder of PEFT's.
    pub path: PathBuf,
    /// 1 is the adapter as it was trained, 0.5 half of it.
    pub scale: f32,
    /// α, by which a pair of rank R counts α/R times, where the file does not say it: RWKV-PEFT's and web-rwkv's do not.
    pub alpha: Option<f32>,
    /// The file with the pairs that PiSSA began with.
    pub init: Option<PathBuf>,
    /// Whether its low-rank pairs are merged into the weights or stay beside them.
    pub form: LoraForm,
}

impl Lora {
    /// The adapter at `path` as it was trained.
    pub fn new(path: impl Into<PathBuf>) -> Lora {
        Lora { path: path.into(), scale: 1.0, alpha: None, init: None, form: LoraForm::default() }
    }

    fn open(&self) -> Result<Adapter, Error> {
        let beside = |name: &&&str| self.path.join(name).is_file();
        let path = match PEFT_ADAPTERS.iter().find(beside) {
            Some(name) => self.path.join(name),
            None => self.path.clone(),
        };
        Ok(Adapter {
            file: ModelFile::open(path)?,
            init: self.init.as_ref().map(ModelFile::open).transpose()?,
            scale: self.scale,
            alpha: self.alpha,
            form: self.form,
        })
    }

    /// The files that are read, with what they are for messages.
    pub fn inputs(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let init = self.init.as_deref().map(|init| ("the adapter's init file", init));
        std::iter::once(("the adapter", &*self.path)).chain(init)
    }
}

impl FromStr for Lora {
    type Err = Error;

    /// Reads the text form. What follows the last colons counts if it is a number, `alpha=`, `init=`, `merge` or `beside`; anything else
    /// belongs to the name.
    fn from_str(text: &str) -> Result<Lora, Error> {
        let fault = |reason: String| Error::Option { option: "lora", reason };
        let mut lora = Lora::new("");
        let mut rest = text;
        let mut has_scale = false;
        let mut form = None;
        while let Some((before, last)) = rest.rsplit_once(':') {
            let number = |text: &str| text.parse::<f32>().ok().filter(|number| number.is_finite());
            if let Some(alpha) = last.strip_prefix("alpha=") {
                let number = number(alpha);
                let twice = lora.alpha.is_some();
                lora.alpha = number.filter(|_| !twice);
                if lora.alpha.is_none() {
                    return Err(fault(format!("{text:?}: alpha={alpha} is no finite number, or is given twice")));
                }
            } else if let Some(init) = last.strip_prefix("init=") {
                if lora.init.replace(init.into()).is_some() || init.is_empty() {
                    return Err(fault(format!("{text:?}: init= is given twice, or without a file")));
                }
            } else if let Some(found) = form_named(last) {
                if form.replace(found).is_some() {
                    return Err(fault(format!("{text:?}: merge and beside exclude each other; name one of them once")));
                }
            } else if let Some(scale) = number(last) {
                if has_scale {
                    return Err(fault(format!("{text:?}: two scales are given")));
                }
                (lora.scale, has_scale) = (scale, true);
            } else {
                break;
            }
            rest = before;
        }
        if rest.is_empty() {
            return Err(fault(format!(
                "{text:?} names no file; expected FILE[:SCALE][:alpha=A][:init=FILE][:merge|:beside]"
            )));
        }
        lora.path = rest.into();
        lora.form = form.unwrap_or_default();
        Ok(lora)
    }
}

/// The form that the last word of an adapter's text names.
fn form_named(word: &str) -> Option<LoraForm> {
    match word {
        "merge" => Some(LoraForm::Merged),
        "beside" => Some(LoraForm::Beside),
        _ => None,
    }
}

/// `file` with `loras` in its weights or beside them, one after another, computed by `n_threads` threads (`None`: one per core); `file` itself
/// if there are no adapters. Only what runs a model knows of pairs beside weights: to convert or quantize the file, every adapter must be
/// [`LoraForm::Merged`].
///
/// # Errors
/// If an adapter cannot be read, or does not fit the model; see [`lora::changes`].
pub fn with_loras(file: &Arc<ModelFile>, loras: &[Lora], n_threads: Option<usize>) -> Result<Arc<ModelFile>, Error> {
    if loras.is_empty() {
        return Ok(file.clone());
    }
    let adapters = loras.iter().map(Lora::open).collect::<Result<Vec<_>, _>>()?;
    let Changes { merges, beside } = lora::changes(file, &adapters)?;
    let n_cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let n_threads = n_threads.unwrap_or_else(n_cores);
    let variant = variant(&adapters);
    let merged: Vec<Replacement> = compute(&merges, Merge::compute, n_threads)?;
    let pairs: Vec<[Addition; 2]> = compute(&beside, LowRank::compute, n_threads)?;
    let file = file.replacing(merged, &variant);
    Ok(if pairs.is_empty() { file } else { file.adding(pairs.into_iter().flatten().collect(), &variant) })
}

/// Computes all `items`, each of them in one of `n_threads` threads, in any order.
fn compute<T: Sync, R: Send>(
    items: &[T],
    of: impl Fn(&T) -> Result<R, ModelError> + Sync,
    n_threads: usize,
) -> Result<Vec<R>, ModelError> {
    let next = AtomicUsize::new(0);
    let work = || {
        let take = || items.get(next.fetch_add(1, Ordering::Relaxed));
        std::iter::from_fn(take).map(&of).collect::<Result<Vec<_>, _>>()
    };
    std::thread::scope(|scope| {
        // Where the system starts no further thread, this one does all.
        let others: Vec<_> = (1..n_threads)
            .filter_map(|_| std::thread::Builder::new().name("anser-merge".into()).spawn_scoped(scope, work).ok())
            .collect();
        let mut all = work()?;
        for other in others {
            all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(all)
    })
}

/// A name for the adapters and their factors: equal adapters have the same one, so that states of the model and those of its variants are
/// told apart, in memory and in files. Where their pairs lie is no part of it: the model is the same but for rounding.
fn variant(adapters: &[Adapter]) -> String {
    let mut hash = Sha256::new();
    for Adapter { file, init, scale, alpha, form: _ } in adapters {
        hash.update(format!("{:08x} {:?}\n", scale.to_bits(), alpha.map(f32::to_bits)));
        for file in std::iter::once(file).chain(init) {
            for (key, value) in file.metadata_entries() {
                hash.update(format!("{key} {value}\n"));
            }
            for tensor in file.tensors().filter_map(|info| info.view()) {
                hash.update(format!("{} {} {:?}\n", tensor.name, tensor.dtype, tensor.shape));
                hash.update(tensor.bytes);
            }
        }
    }
    let digest = hash.finalize();
    format!("lora={}", digest[..6].iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_is_read_from_its_end() {
        let lora = |path: &str| Lora::new(path);
        for (text, expected) in [
            ("a.pth", lora("a.pth")),
            ("a.pth:0.5", Lora { scale: 0.5, ..lora("a.pth") }),
            ("C:\\a.pth:alpha=32", Lora { alpha: Some(32.0), ..lora("C:\\a.pth") }),
            ("a:b.st:alpha=8:-1", Lora { alpha: Some(8.0), scale: -1.0, ..lora("a:b.st") }),
            ("a.pth:init=b.pth", Lora { init: Some("b.pth".into()), ..lora("a.pth") }),
            ("a.pth:merge:2", Lora { scale: 2.0, form: LoraForm::Merged, ..lora("a.pth") }),
            ("merge:beside", Lora { form: LoraForm::Beside, ..lora("merge") }),
        ] {
            assert_eq!(text.parse::<Lora>().unwrap(), expected, "{text}");
        }
        for text in [
            "",
            ":0.5",
            "a:alpha=x",
            "a:1:2",
            "a:alpha=1:alpha=2",
            "a:init=",
            "a:alpha=nan",
            "a:merge:beside",
            ":merge",
        ] {
            let error = text.parse::<Lora>().unwrap_err().to_string();
            assert!(error.contains("lora"), "{text}: {error}");
        }
    }
}
