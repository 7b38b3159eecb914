//! Files of web-rwkv's: safetensors with BlinkDL's names in F16, low-rank matrices `[out, in]`, and what its converter renames.

use crate::error::ConvertError;
use crate::gguf;
use crate::output::{Form, Output, OutputTensor, Piece};
use crate::parts::{Kind, Part, parts};
use anser_format::{DType, ModelFile};
use anser_model::{Config, Source, web_rwkv_name};
use std::sync::Arc;

/// The layout's name in messages.
const LAYOUT: &str = "web-rwkv's .st files";

/// The epsilon of layer norms that web-rwkv computes with.
const LAYER_NORM_EPS: f32 = 1e-5;

impl Output {
    /// Lays the model in `file` out as a file of web-rwkv's: RWKV-4, RWKV-5.1, RWKV-5.2, RWKV-6 or RWKV-7 in F16, in the order of the names.
    ///
    /// # Errors
    /// If the file is no such model, or the layout has no form for it.
    pub fn web_rwkv(file: &Arc<ModelFile>) -> Result<Output, ConvertError> {
        let config = Config::from_file(file)?;
        let source = Source::new(file);
        let no_form = |what: &str, advice: &str| ConvertError::NoForm {
            file: file.name().into(),
            what: what.into(),
            layout: LAYOUT,
            advice: advice.into(),
        };
        let kind = Kind::of(&source, &config)
            .map_err(|what| no_form(what, "they hold RWKV-4, RWKV-5.1, RWKV-5.2, RWKV-6 and RWKV-7"))?;
        if kind == (Kind::V5 { has_gate: false }) {
            return Err(no_form(kind.name(), "they hold RWKV-4, RWKV-5.1, RWKV-5.2, RWKV-6 and RWKV-7"));
        }
        gguf::check_plain(file, &source, &config, LAYOUT, Some(LAYER_NORM_EPS))?;
        let parts = parts(file, &config, kind)?;
        let mut tensors: Vec<OutputTensor> = parts.into_iter().map(|part| tensor(part, &config, kind)).collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Output { file: file.clone(), form: Form::Safetensors, tensors })
    }
}

fn tensor(part: Part, config: &Config, kind: Kind) -> OutputTensor {
    let name = web_rwkv_name(&part.name);
    let factor = gguf::stored_smaller_by(&part, config.rescale_every);
    let (shape, piece) = match kind {
        // RWKV-5.1 has one number for all channels of a head, and the layout one for each.
        Kind::V5 { .. } if part.shape == [config.n_head] => {
            let wide = part.weight.to_f32().into_iter().flat_map(|x| std::iter::repeat_n(x, config.head_size));
            (vec![config.n_head, config.head_size], Piece::Numbers(wide.collect()))
        }
        Kind::V4 | Kind::V5 { .. } | Kind::V6 | Kind::V7 => (part.shape, Piece::Stored { weight: part.weight, factor }),
    };
    OutputTensor { name, dtype: DType::F16, shape, pieces: vec![piece], importance: None }
}
