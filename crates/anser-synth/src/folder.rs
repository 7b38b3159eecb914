//! Writing a synthetic RWKV-7 model as a Hugging Face folder, as `Rwkv7ForCausalLM` has it: BlinkDL's names under `model.`, and
//! low-rank matrices that are those of linear layers, `[out, in]`.

use anser_format::{DType, SafetensorsHeader, SafetensorsWriteError};

use crate::pth::{self, Tensor};
use crate::recipe::TensorRecipe;
use crate::shape::{HEAD_SIZE, N_VOCAB, Shape, Version};

/// What becomes of a tensor of the GGUF file. Nothing is transposed.
pub(crate) fn tensors_of(recipe: &TensorRecipe) -> Vec<Tensor> {
    let renamed = |mut tensor: Tensor| {
        if tensor.is_transposed {
            tensor.shape.reverse();
            tensor.is_transposed = false;
            tensor.name.push_str(".weight");
        }
        tensor.name = match tensor.name.as_str() {
            "head.weight" => tensor.name,
            "emb.weight" => "model.embeddings.weight".into(),
            name => format!("model.{name}"),
        };
        tensor
    };
    pth::tensors_of(recipe, Version::V7).into_iter().map(renamed).collect()
}

/// Bytes of a tensor, whose elements are F16.
pub(crate) fn n_bytes_of(tensor: &Tensor) -> u64 {
    2 * tensor.shape.iter().product::<usize>() as u64
}

/// The header of the safetensors file.
pub(crate) fn header(tensors: &[Tensor]) -> Result<SafetensorsHeader, SafetensorsWriteError> {
    let mut header = SafetensorsHeader::new();
    for tensor in tensors {
        header.tensor(&tensor.name, DType::F16, &tensor.shape)?;
    }
    Ok(header)
}

/// The text of `config.json`.
pub(crate) fn config(shape: &Shape) -> String {
    let Shape { n_layer, n_embd, .. } = shape;
    format!(
        r#"{{
  "architectures": ["Rwkv7ForCausalLM"],
  "model_type": "rwkv7",
  "dtype": "float16",
  "vocab_size": {N_VOCAB},
  "hidden_size": {n_embd},
  "intermediate_size": {},
  "num_hidden_layers": {n_layer},
  "head_size": {HEAD_SIZE},
  "num_attention_heads": {},
  "layer_norm_epsilon": 1e-05,
  "group_norm_epsilon": 0.00064,
  "max_position_embeddings": 4096,
  "embedding_layer_norm_fused": false,
  "bos_token_id": 0,
  "eos_token_id": 0
}}
"#,
        shape.n_ffn(),
        n_embd / HEAD_SIZE,
    )
}
