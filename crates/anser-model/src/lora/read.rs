//! The dialects of adapters: which tensors of a file belong together, and by which factor they count.

use super::Adapter;
use super::merge::Change;
use super::names::{Names, Target};
use crate::error::ModelError;
use crate::names::{LOW_RANK, in_layer};
use crate::source::squeeze;
use anser_format::{FileKind, MetaValue, ModelFile, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What PEFT puts before the names of a model's modules.
const PEFT_PREFIX: &str = "base_model.model.";

/// What a tensor is of the module before its suffix.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Role {
    /// A, or A₀ in the file of PiSSA's beginning. `is_transposed` says that it lies as `[in, R]`.
    Down { is_transposed: bool },
    /// B, or B₀.
    Up,
    /// D of Bone or Bat.
    Bone,
}

/// Suffixes, and what they mean.
const SUFFIXES: [(&str, Role); 9] = [
    (".lora_A", Role::Down { is_transposed: false }),
    (".lora_B", Role::Up),
    (".lora_A.weight", Role::Down { is_transposed: false }),
    (".lora_B.weight", Role::Up),
    (".lora_a", Role::Down { is_transposed: false }),
    (".lora_b", Role::Up),
    (".lora.0", Role::Down { is_transposed: true }),
    (".lora.1", Role::Up),
    (".disha", Role::Bone),
];
/// The same in the file of PiSSA's beginning.
const INIT_SUFFIXES: [(&str, Role); 4] = [
    (".init_lora_A", Role::Down { is_transposed: false }),
    (".init_lora_B", Role::Up),
    (".lora_A", Role::Down { is_transposed: false }),
    (".lora_B", Role::Up),
];

/// A low-rank pair: A and whether it is transposed, and B.
#[derive(Default)]
struct Pair {
    down: Option<(Tensor, bool)>,
    up: Option<Tensor>,
}

/// An adapter's tensors by what they are.
struct Sorted {
    pairs: BTreeMap<String, Pair>,
    bones: Vec<(String, Tensor)>,
    wholes: Vec<Tensor>,
    /// Whether pairs are named as web-rwkv names them.
    is_web_rwkv: bool,
}

/// By which factor s·α/R a pair of inner width R counts.
#[derive(Debug, Clone, Copy)]
enum Factor {
    /// s·α/R, or s·α/√R for a rank-stabilised adapter.
    Alpha { scale: f32, alpha: f32, is_by_root: bool },
    /// s alone.
    Scale(f32),
}

/// All changes of `adapter`, in the order of names.
pub(super) fn changes(names: &Names, adapter: &Adapter) -> Result<Vec<(Target, Change)>, ModelError> {
    let file = &adapter.file;
    if !adapter.scale.is_finite() {
        return Err(refuse(file, format!("its scale is {}; name a finite one", adapter.scale)));
    }
    check_settings(names, file)?;
    let sorted = sort(file, &SUFFIXES)?;
    let needs_alpha = !sorted.pairs.is_empty() || sorted.is_web_rwkv;
    let factor = factor(adapter, needs_alpha, sorted.pairs.values().next())?;
    let reader = Reader { names, adapter };
    let mut changes = vec![];
    let mut targets = BTreeMap::new();
    for (module, pair) in &sorted.pairs {
        let (target, down, up) = reader.pair(file, module, pair)?;
        let rank = up.shape().get(1).copied().unwrap_or(1).max(1);
        targets.insert(target.name.clone(), rank);
        changes.push((target.clone(), Change::Pair { down, up, factor: factor.of(rank) * reader.unit(&target) }));
    }
    if let Some(init) = &adapter.init {
        let sorted = sort(init, &INIT_SUFFIXES)?;
        if let Some(tensor) = sorted.wholes.first() {
            return Err(not_understood(init, tensor.name()));
        }
        for (module, pair) in &sorted.pairs {
            let (target, down, up) = reader.pair(init, module, pair)?;
            if targets.remove(&target.name).is_none() {
                return Err(refuse(
                    init,
                    format!(
                        "{module} is in it and not in {}; name the init file that belongs to the adapter",
                        file.name()
                    ),
                ));
            }
            let factor = -adapter.scale * reader.unit(&target);
            changes.push((target, Change::Pair { down, up, factor }));
        }
        if let Some(name) = targets.keys().next() {
            return Err(refuse(
                init,
                format!(
                    "the pair of {name} is missing, which {} has; name the init file that belongs to the adapter",
                    file.name()
                ),
            ));
        }
    }
    for (module, tensor) in sorted.bones {
        changes.push(reader.bone(&module, tensor)?);
    }
    for tensor in sorted.wholes {
        changes.push(reader.whole(tensor, sorted.is_web_rwkv, factor)?);
    }
    if changes.is_empty() {
        return Err(refuse(file, "it has no tensors that change a model".into()));
    }
    Ok(changes)
}

/// Checks that what the file says of itself is something that is merged here.
fn check_settings(names: &Names, file: &Arc<ModelFile>) -> Result<(), ModelError> {
    let is = |key: &str, expected: &str| match file.metadata(key) {
        Some(value) if value.as_str() != Some(expected) => Err(ModelError::Metadata {
            file: file.name().into(),
            key: key.into(),
            expected: format!("{expected:?}"),
            found: value.to_string(),
        }),
        Some(_) | None => Ok(()),
    };
    if let FileKind::Gguf { .. } = file.kind() {
        if file.metadata("general.type").and_then(MetaValue::as_str) != Some("adapter") {
            return Err(refuse(file, "it is a GGUF file of another kind than an adapter (general.type)".into()));
        }
        is("adapter.type", "lora")?;
        return is("general.architecture", names.architecture());
    }
    is("adapter_config.peft_type", "LORA")?;
    for key in ["rank_pattern", "alpha_pattern"] {
        let key = format!("adapter_config.{key}");
        if file.metadata(&key).is_some_and(|value| value.as_str() != Some("{}")) {
            return Err(refuse(
                file,
                format!("{key} gives modules ranks or alphas of their own, which are not merged here"),
            ));
        }
    }
    for key in ["use_dora", "fan_in_fan_out"] {
        let key = format!("adapter_config.{key}");
        if file.metadata(&key).and_then(MetaValue::as_bool) == Some(true) {
            return Err(refuse(file, format!("{key} is true: such adapters are not merged here")));
        }
    }
    Ok(())
}

/// Sorts the tensors of `file` by their suffixes.
fn sort(file: &Arc<ModelFile>, suffixes: &[(&str, Role)]) -> Result<Sorted, ModelError> {
    let mut sorted = Sorted { pairs: BTreeMap::new(), bones: vec![], wholes: vec![], is_web_rwkv: false };
    for info in file.tensors() {
        let name = info.name;
        let tensor = file.tensor(name).filter(|tensor| !tensor.dtype().is_quantized() || is_gguf(file));
        let tensor = tensor.ok_or_else(|| ModelError::Type {
            file: file.name().into(),
            tensor: name.into(),
            found: info.stored.name().into(),
        })?;
        if info.shape.contains(&0) {
            return Err(wrong_shape(file, name, "no dimension of 0", info.shape));
        }
        let found = suffixes.iter().find_map(|&(suffix, role)| Some((name.strip_suffix(suffix)?, suffix, role)));
        let Some((module, suffix, role)) = found else {
            sorted.wholes.push(tensor);
            continue;
        };
        sorted.is_web_rwkv |= suffix.starts_with(".lora.");
        match role {
            Role::Down { is_transposed } => {
                sorted.pairs.entry(module.into()).or_default().down = Some((tensor, is_transposed))
            }
            Role::Up => sorted.pairs.entry(module.into()).or_default().up = Some(tensor),
            Role::Bone => sorted.bones.push((module.into(), tensor)),
        }
    }
    Ok(sorted)
}

fn is_gguf(file: &ModelFile) -> bool {
    matches!(file.kind(), FileKind::Gguf { .. })
}

/// The factor of the adapter's pairs. `pair` is any of them, to name its rank in a message.
fn factor(adapter: &Adapter, needs_alpha: bool, pair: Option<&Pair>) -> Result<Factor, ModelError> {
    let Adapter { file, scale, alpha: given, .. } = adapter;
    let scale = *scale;
    if let (Some(_), Some(alpha)) = (&adapter.init, given) {
        return Err(refuse(
            file,
            format!("alpha={alpha} is given with an init file: PiSSA's pairs have no alpha; leave it out"),
        ));
    }
    let key = if is_gguf(file) { "adapter.lora.alpha" } else { "adapter_config.lora_alpha" };
    let in_file = match file.metadata(key) {
        None => None,
        Some(value) => Some(number(value).filter(|alpha| alpha.is_finite()).ok_or_else(|| ModelError::Metadata {
            file: file.name().into(),
            key: key.into(),
            expected: "a finite number".into(),
            found: value.to_string(),
        })? as f32),
    };
    let is_by_root = file.metadata("adapter_config.use_rslora").and_then(MetaValue::as_bool) == Some(true);
    match (in_file, *given) {
        (Some(alpha), Some(given)) => Err(refuse(
            file,
            format!("the file says alpha {alpha}, and {given} is given; leave alpha out, or use the scale"),
        )),
        // llama.cpp takes 0 for an adapter without an alpha.
        (Some(0.0), None) if is_gguf(file) => Ok(Factor::Scale(scale)),
        (Some(alpha), None) => Ok(Factor::Alpha { scale, alpha, is_by_root }),
        (None, Some(alpha)) if !alpha.is_finite() => Err(refuse(file, format!("alpha is {alpha}; name a finite one"))),
        (None, Some(_)) if !needs_alpha => Err(refuse(
            file,
            "alpha is given, but the file has no low-rank pairs, which alone it counts for; leave it out".into(),
        )),
        (None, Some(alpha)) => Ok(Factor::Alpha { scale, alpha, is_by_root }),
        (None, None) if !needs_alpha || adapter.init.is_some() => Ok(Factor::Scale(scale)),
        (None, None) => {
            let rank = pair.and_then(|pair| pair.up.as_ref()?.shape().get(1).copied());
            let rank = rank.map_or(String::new(), |rank| {
                format!(" (its rank is {rank}; alpha is usually {rank} or {})", 2 * rank)
            });
            Err(refuse(
                file,
                format!("the file does not say its alpha; name the one that it was trained with, alpha=A{rank}"),
            ))
        }
    }
}

/// A number, which JSON may write without a point.
fn number(value: &MetaValue) -> Option<f64> {
    value.as_f64().or_else(|| value.as_i64().map(|whole| whole as f64))
}

impl Factor {
    /// The factor of a pair of inner width `rank`.
    fn of(self, rank: usize) -> f32 {
        match self {
            Factor::Alpha { scale, alpha, is_by_root: true } => scale * alpha / (rank as f32).sqrt(),
            Factor::Alpha { scale, alpha, is_by_root: false } => scale * alpha / rank as f32,
            Factor::Scale(scale) => scale,
        }
    }
}

struct Reader<'a> {
    names: &'a Names<'a>,
    adapter: &'a Adapter,
}

impl Reader<'_> {
    /// By what additions to `target` are multiplied: adapters in GGUF were converted as the model was.
    fn unit(&self, target: &Target) -> f32 {
        if is_gguf(&self.adapter.file) { 1.0 } else { target.unit }
    }

    /// The weight of the module that `file` calls `module`.
    fn target(&self, file: &ModelFile, module: &str) -> Result<Target, ModelError> {
        let module = module.strip_prefix(PEFT_PREFIX).unwrap_or(module);
        let found = match self.names.find(&format!("{module}.weight"))? {
            Some(target) => Some(target),
            None => self.names.find(module)?,
        };
        let target = found.ok_or_else(|| not_understood(file, module))?;
        if target.name == "emb.weight" && self.names.is_embedding_folded() {
            return Err(refuse(
                file,
                format!(
                    "{module}: the model has its first norm folded into the embedding, so that a change of it cannot be merged; take the .pth file that the model was made from"
                ),
            ));
        }
        Ok(target)
    }

    /// The target of a pair, A as `[R, in]` and B as `[out, R]`.
    fn pair(&self, file: &Arc<ModelFile>, module: &str, pair: &Pair) -> Result<(Target, Tensor, Tensor), ModelError> {
        let missing = |which: &str| {
            refuse(file, format!("{module}: {which} of the low-rank pair is missing; the file is incomplete"))
        };
        let (down, is_transposed) = pair.down.as_ref().ok_or_else(|| missing("A"))?;
        let up = pair.up.as_ref().ok_or_else(|| missing("B"))?;
        let target = self.target(file, module)?;
        let &[n_out, n_in] = &target.shape[..] else {
            return Err(refuse(
                file,
                format!("{module}: the model's {} is no matrix, so a low-rank pair cannot change it", target.name),
            ));
        };
        let [rank_of_down, n_cols] = match (down.shape(), is_transposed) {
            (&[rank, n], false) | (&[n, rank], true) => [rank, n],
            (shape, _) => return Err(wrong_shape(file, down.name(), "two dimensions", shape)),
        };
        let expected = if *is_transposed { format!("[{n_in}, _]") } else { format!("[_, {n_in}]") };
        if n_cols != n_in {
            return Err(wrong_shape(file, down.name(), &expected, down.shape()));
        }
        if up.shape() != [n_out, rank_of_down] {
            return Err(wrong_shape(file, up.name(), &format!("[{n_out}, {rank_of_down}]"), up.shape()));
        }
        let down = match is_transposed {
            true => down.transposed().ok_or_else(|| wrong_shape(file, down.name(), &expected, down.shape()))?,
            false => down.clone(),
        };
        Ok((target, down, up.clone()))
    }

    /// The change of Bone, or of Bat, which the number of dimensions tells.
    fn bone(&self, module: &str, tensor: Tensor) -> Result<(Target, Change), ModelError> {
        let file = &self.adapter.file;
        let target = self.target(file, module)?;
        let &[n_out, n_in] = &target.shape[..] else {
            return Err(refuse(file, format!("{module}: the model's {} is no matrix", target.name)));
        };
        let (scale, unit) = (self.adapter.scale, self.unit(&target));
        match *tensor.shape() {
            [_, n] if n == n_out => Ok((target, Change::Bone { blocks: tensor, factor: scale * unit })),
            [n, rank, other] if rank == other && n * rank == n_in && n_out % rank == 0 => {
                Ok((target, Change::Bat { blocks: tensor, scale, unit }))
            }
            _ => {
                let expected =
                    format!("[R, {n_out}] (Bone), or [{n_in}/R, R, R] with an R that divides {n_out} and {n_in} (Bat)");
                Err(wrong_shape(file, tensor.name(), &expected, tensor.shape()))
            }
        }
    }

    /// The change of a tensor that stands for the model's own.
    fn whole(&self, tensor: Tensor, is_web_rwkv: bool, factor: Factor) -> Result<(Target, Change), ModelError> {
        let file = &self.adapter.file;
        let name = tensor.name().to_owned();
        if name.ends_with(".att.time_state") {
            return Err(refuse(
                file,
                format!(
                    "{name} is part of a tuned initial state, which no weight becomes; save it apart, and begin sessions with it"
                ),
            ));
        }
        let plain = name.strip_prefix(PEFT_PREFIX).unwrap_or(&name);
        let target = self.names.find(plain)?.filter(|_| !is_gguf(file)).ok_or_else(|| not_understood(file, &name))?;
        if target.name == "emb.weight" {
            self.target(file, plain)?;
        }
        let is_low_rank = in_layer(&target.name).is_some_and(|(_, part)| LOW_RANK.contains(&part));
        let is_blink = matches!(file.kind(), FileKind::Torch(_)) && !plain.ends_with(".weight");
        let oriented = match is_low_rank && is_blink {
            true => tensor.transposed().ok_or_else(|| wrong_shape(file, &name, "[_, _]", tensor.shape()))?,
            false => tensor.clone(),
        };
        let (expected, found) = (squeeze(&target.shape), squeeze(oriented.shape()));
        let n_expected = match target.row {
            Some(_) => target.shape.last().copied().unwrap_or(0),
            None => target.shape.iter().product(),
        };
        let is_vector = target.row.is_some() || expected.len() < 2 || found.len() < 2;
        let fits = if is_vector { n_expected == found.iter().product::<usize>() } else { expected == found };
        if !fits {
            let shape = if target.row.is_some() { vec![n_expected] } else { target.shape.clone() };
            let turned = if is_low_rank && is_blink { " with the last two dimensions exchanged" } else { "" };
            return Err(wrong_shape(file, &name, &format!("{shape:?}{turned}"), tensor.shape()));
        }
        let (scale, unit) = (self.adapter.scale, self.unit(&target));
        let is_peft = file.metadata("adapter_config.peft_type").is_some() || name.starts_with(PEFT_PREFIX);
        let change = match file.kind() {
            // web-rwkv adds whole matrices, as if they were products of pairs of inner width 1.
            FileKind::Safetensors if is_web_rwkv && !is_vector => {
                Change::Add { values: oriented, factor: factor.of(1) * unit }
            }
            FileKind::Safetensors if !is_web_rwkv && !is_peft && !is_vector => {
                return Err(refuse(
                    file,
                    format!(
                        "{name}: a whole matrix in a file without low-rank pairs; whether it is added (as web-rwkv does) or replaces the model's cannot be told; give it as .pth to replace"
                    ),
                ));
            }
            _ => Change::Blend { values: oriented, scale, unit },
        };
        Ok((target, change))
    }
}

fn refuse(file: &ModelFile, problem: String) -> ModelError {
    ModelError::Adapter { file: file.name().into(), problem }
}

fn not_understood(file: &ModelFile, tensor: &str) -> ModelError {
    refuse(
        file,
        format!(
            "{tensor}: no tensor of the model, or of an adapter that is known, has this name; the adapter is of another model, or of a kind that is not merged"
        ),
    )
}

fn wrong_shape(file: &ModelFile, tensor: &str, expected: &str, found: &[usize]) -> ModelError {
    ModelError::Shape {
        file: file.name().into(),
        tensor: tensor.into(),
        expected: format!("{expected} for this model"),
        found: found.to_vec(),
    }
}
