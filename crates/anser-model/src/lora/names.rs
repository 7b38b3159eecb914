//! Which tensor of a model an adapter's name means.

use crate::config::{Config, Version};
use crate::dialect::Dialect;
use crate::error::ModelError;
use crate::names;
use crate::plan::Op;
use crate::source::Source;
use anser_format::ModelFile;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The tensors of a model under the names that all dialects have for them.
pub(super) struct Names<'a> {
    pub(super) base: &'a Arc<ModelFile>,
    pub(super) config: Config,
    source: Source<'a>,
    /// BlinkDL's name of each spelling.
    blink: HashMap<String, String>,
    /// The tensors in the model's file that are factors of products and nothing else.
    multiplied: BTreeSet<String>,
}

/// A tensor of the model that an adapter changes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    /// BlinkDL's name.
    pub(super) name: String,
    /// The tensor in the model's file.
    pub(super) tensor: String,
    /// The row of it, where it stacks several vectors.
    pub(super) row: Option<usize>,
    /// Whether the file has its last two dimensions exchanged.
    pub(super) is_transposed: bool,
    /// Shape in the engine's orientation, `[out, in]` for a matrix; that of the whole stack where `row` names one of several vectors.
    pub(super) shape: Vec<usize>,
    /// What a number of BlinkDL's is multiplied by in this file: a power of 1/2 where llama.cpp halves the residual stream, else 1.
    pub(super) unit: f32,
}

impl<'a> Names<'a> {
    /// The names of the model in `base`.
    pub(super) fn of(base: &'a Arc<ModelFile>) -> Result<Names<'a>, ModelError> {
        let (config, plan) = crate::load(base)?;
        let mut blink = HashMap::new();
        let weights: BTreeSet<&str> = plan.weights.iter().map(|weight| weight.name()).collect();
        for name in weights {
            for spelled in spellings(base, name) {
                blink.insert(spelled, name.to_owned());
            }
        }
        let source = Source::new(base);
        let (mut multiplied, mut looked_up) = (BTreeSet::new(), BTreeSet::new());
        for op in plan.nodes.iter().map(|node| &node.op) {
            let spelled = |id| source.spelled(plan.weight(id).name());
            match op {
                Op::MatMul { weight, .. } => multiplied.insert(spelled(*weight)),
                Op::Embed { table, .. } => looked_up.insert(spelled(*table)),
                _ => false,
            };
        }
        // A head may be the embedding table.
        multiplied.retain(|tensor| !looked_up.contains(tensor));
        Ok(Names { base, config, source, blink, multiplied })
    }

    /// Whether the model does nothing with `tensor`, a name in its file, but multiply with it.
    pub(super) fn is_only_multiplied(&self, tensor: &str) -> bool {
        self.multiplied.contains(tensor)
    }

    /// The tensor that an adapter calls `name`; `None` if the model has none.
    pub(super) fn find(&self, name: &str) -> Result<Option<Target>, ModelError> {
        let name = match self.blink.get(name) {
            Some(blink) => blink,
            // A tensor that the plan does not use, such as the value residual of RWKV-7's first layer.
            None if name.starts_with("blocks.") && self.source.has(name) => name,
            None => return Ok(None),
        };
        let dialect = self.source.dialect();
        let spelled = dialect.spell(self.base, name);
        if dialect == Dialect::FlaV6
            && matches!(names::in_layer(name), Some((_, "att.time_maa_w1" | "att.time_maa_w2")))
        {
            let problem = format!(
                "{} has the mixes in another order than adapters have them, and takes none of theirs",
                spelled.name
            );
            return Err(ModelError::Adapter { file: self.base.name().into(), problem });
        }
        let unit = match names::in_layer(name) {
            Some((layer, "att.output.weight" | "ffn.value.weight")) => {
                let layer = layer.parse::<usize>().unwrap_or(0);
                0.5f32.powi(layer.checked_div(self.config.rescale_every).unwrap_or(0) as i32)
            }
            _ => 1.0,
        };
        let shape = self.source.shape(name)?;
        let (tensor, row, is_transposed) = (spelled.name, spelled.row, spelled.is_transposed);
        Ok(Some(Target { name: name.into(), tensor, row, is_transposed, shape, unit }))
    }

    /// Whether the file has LN(emb; ln0) as its embedding, so that a change of the embedding cannot be merged.
    pub(super) fn is_embedding_folded(&self) -> bool {
        self.source.dialect().is_hugging_face() && !self.source.has("blocks.0.ln0.weight") && !self.is_hybrid()
    }

    fn is_hybrid(&self) -> bool {
        self.config.version.is_hybrid()
    }

    /// What GGUF files call the model's architecture.
    pub(super) fn architecture(&self) -> &'static str {
        match self.config.version {
            Version::V4 => "rwkv4",
            Version::V5 => "rwkv5",
            Version::V6 => "rwkv6",
            Version::V7 | Version::V7a => "rwkv7",
            Version::Rwkv6Qwen2 => "rwkv6qwen2",
            Version::Arwkv7 => "arwkv7",
        }
    }
}

/// What programs call BlinkDL's tensor `name`.
fn spellings(base: &ModelFile, name: &str) -> Vec<String> {
    let linear = |prefix, is_linear| Dialect::Transformers { prefix, embedding: "emb.weight", is_linear };
    let dialects = [
        Dialect::Blink,
        Dialect::WebRwkv,
        Dialect::Gguf,
        Dialect::Fla,
        Dialect::Attention,
        Dialect::Prefixed { prefix: "rwkv.", embedding: "emb.weight" },
        linear("rwkv7.", true),
        linear("rwkv7.", false),
        linear("model.", true),
        linear("model.", false),
    ];
    // A row of a stack has no name of its own there.
    let spelled = dialects.iter().map(|dialect| dialect.spell(base, name)).filter(|spelled| spelled.row.is_none());
    spelled.map(|spelled| spelled.name).collect()
}
