//! Writing a synthetic RWKV-7 model as a Hugging Face folder, as `Rwkv7ForCausalLM` has it: BlinkDL's names under `model.`, and
//! low-rank matrices that are those of linear layers, `[out, in]`.

use crate::pth::{self, Tensor};
use crate::recipe::TensorRecipe;
use crate::shape::{HEAD_SIZE, N_VOCAB, Shape, Version};

/// What the length of the header is a multiple of, so that tensors lie aligned.
const ALIGNMENT: usize = 8;

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

/// The header of the safetensors file, padded with spaces, and the bytes of all tensors.
pub(crate) fn header(tensors: &[Tensor]) -> (String, u64) {
    let mut at = 0;
    let entry = |tensor: &Tensor| {
        let start = at;
        at += n_bytes_of(tensor);
        format!(r#""{}":{{"dtype":"F16","shape":{:?},"data_offsets":[{start},{at}]}}"#, tensor.name, tensor.shape)
    };
    let entries: Vec<String> = tensors.iter().map(entry).collect();
    let mut header = format!(r#"{{"__metadata__":{{"format":"pt"}},{}}}"#, entries.join(","));
    let n_padding = header.len().next_multiple_of(ALIGNMENT) - header.len();
    header.extend(std::iter::repeat_n(' ', n_padding));
    (header, at)
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
