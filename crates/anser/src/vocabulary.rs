//! Reads vocabulary files, and finds the tokenizer of a model.

use crate::chat::CHATML_END;
use crate::error::Error;
use crate::files;
use crate::generate::END_OF_TEXT;
use crate::model::Model;
use anser_format::{MetaValue, ModelFile};
use anser_tokenizer::Tokenizer;
use std::path::{Path, PathBuf};

/// The most bytes that a vocabulary file may have. That of the World vocabulary has about a million.
pub const MAX_VOCABULARY_N_BYTES: u64 = 64 << 20;

/// The tokenizer of the vocabulary file at `path`: lines as in `rwkv_vocab_v20230424.txt`, or JSON as web-rwkv reads it;
/// see [`Tokenizer::from_vocab_text`].
///
/// # Errors
/// If the file cannot be read, has more than [`MAX_VOCABULARY_N_BYTES`] bytes or is no usable vocabulary.
pub fn read_vocabulary(path: impl AsRef<Path>) -> Result<Tokenizer, Error> {
    let path = path.as_ref();
    let bytes = files::read_at_most(path, MAX_VOCABULARY_N_BYTES, "a vocabulary file")?;
    let refuse = |e: anser_tokenizer::VocabularyError| Error::Tokenizer {
        file: path.display().to_string(),
        reason: e.to_string(),
    };
    Tokenizer::from_vocab_file(&bytes).map_err(refuse)
}

/// The tokenizer of a model: that of the file `given`, if the caller named one, else the one that the model's file carries or that lies
/// beside it. Errors: the reason, in words.
pub(crate) fn of_model(model: &Model, given: Option<&Path>) -> Result<Tokenizer, String> {
    let n_vocab = model.config().n_vocab;
    let tokenizer = if let Some(path) = given {
        read_vocabulary(path).map_err(|e| format!("vocabulary {e}"))?
    } else if let Some(tokens) = model.file().metadata("tokenizer.ggml.tokens") {
        gguf_tokenizer(model.file(), tokens)?
    } else if let Some(world) = world(n_vocab) {
        world
    } else if let Some(path) = vocabulary_beside(model.name()) {
        read_vocabulary(&path).map_err(|e| format!("vocabulary {e}"))?
    } else {
        return Err(format!(
            "the file has no tokenizer, and its vocabulary of {n_vocab} is {} the World one of {}; \
             name a vocabulary file, or give token ids instead of text",
            if cfg!(feature = "world-vocab") { "not" } else { "none that this build has, like" },
            Tokenizer::WORLD_VOCAB_SIZE
        ));
    };
    of_size(tokenizer, n_vocab)
}

/// The World vocabulary's tokenizer; `None` if the model has another number of tokens, or if this build has no tables of it.
#[cfg_attr(not(feature = "world-vocab"), allow(unused_variables, reason = "there are no tables"))]
fn world(n_vocab: usize) -> Option<Tokenizer> {
    #[cfg(feature = "world-vocab")]
    return (n_vocab == Tokenizer::WORLD_VOCAB_SIZE).then(Tokenizer::world);
    #[cfg(not(feature = "world-vocab"))]
    None
}

/// The tokenizer, if the model's vocabulary has all of its tokens. Errors: the reason, in words.
pub(crate) fn of_size(tokenizer: Tokenizer, n_vocab: usize) -> Result<Tokenizer, String> {
    if tokenizer.vocab_size() > n_vocab {
        let found = tokenizer.vocab_size();
        return Err(format!("the tokenizer has {found} tokens, the model only {n_vocab}"));
    }
    Ok(tokenizer)
}

/// Names of tokenizers' files, as they lie beside the weights of models that do not have the World vocabulary.
const VOCABULARIES: [&str; 3] = ["tokenizer.json", "20B_tokenizer.json", "rwkv_vocab_v20230424.txt"];

/// The tokenizer's file in the folder `model`, or in that of the file `model`.
fn vocabulary_beside(model: &str) -> Option<PathBuf> {
    let model = Path::new(model);
    let folder = if model.is_dir() { model } else { model.parent()? };
    VOCABULARIES.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// The tokens at the edges of a document.
#[derive(Debug)]
pub(crate) struct DocumentTokens {
    /// What an empty prompt is read as.
    pub(crate) start: u32,
    /// What a model writes after its text; at least one.
    pub(crate) ends: Vec<u32>,
}

impl DocumentTokens {
    /// Those of the model in `file`: token 0 of every vocabulary that RWKV models are trained with, and what a GGUF file with a
    /// byte-level BPE names. Models with Qwen2's vocabulary have one token between documents, which the file names as the one that begins
    /// a text, and another one, `<|im_end|>`, at the end of a turn.
    pub(crate) fn of(file: &ModelFile, n_vocab: usize) -> DocumentTokens {
        let key = |name: &str| file.metadata(&format!("tokenizer.ggml.{name}"));
        let is_bpe = key("model").and_then(MetaValue::as_str) == Some("gpt2");
        let token = |name: &str| {
            let id = key(name).filter(|_| is_bpe)?.as_u64()?;
            u32::try_from(id).ok().filter(|&id| (id as usize) < n_vocab)
        };
        let [start, end, end_of_turn] = ["bos_token_id", "eos_token_id", "eot_token_id"].map(token);
        // A file may name another token than the one that ends a turn of a chat.
        let tokens = key("tokens").filter(|_| is_bpe).and_then(MetaValue::as_str_array);
        let chatml_end = tokens.and_then(|tokens| tokens.iter().position(|token| token == CHATML_END));
        let chatml_end = chatml_end.filter(|&id| id < n_vocab).map(|id| id as u32);
        let mut ends: Vec<u32> = [end, end_of_turn, chatml_end, start].into_iter().flatten().collect();
        ends.sort_unstable();
        ends.dedup();
        match start.or(end).or(end_of_turn) {
            Some(start) => DocumentTokens { start, ends },
            None => DocumentTokens { start: END_OF_TEXT, ends: vec![END_OF_TEXT] },
        }
    }
}

/// The tokenizer that a GGUF file carries.
fn gguf_tokenizer(file: &ModelFile, tokens: &MetaValue) -> Result<Tokenizer, String> {
    let text = |key: &str| file.metadata(key).and_then(MetaValue::as_str);
    let is_bpe = match text("tokenizer.ggml.model") {
        Some("rwkv") | None => false,
        Some("gpt2") => true,
        Some(model) => {
            return Err(format!(
                "its tokenizer is of kind {model:?}; Anser reads \"rwkv\" and byte-level BPE (\"gpt2\")"
            ));
        }
    };
    let tokens = tokens.as_str_array().ok_or("tokenizer.ggml.tokens is not a list of strings")?;
    let types = file.metadata("tokenizer.ggml.token_type").and_then(MetaValue::as_i64_array);
    let types = types.ok_or("tokenizer.ggml.token_type is missing or not a list of numbers")?;
    if types.len() != tokens.len() {
        return Err(format!("tokenizer.ggml.token_type has {} entries for {} tokens", types.len(), tokens.len()));
    }
    let types = types.into_iter().map(|t| i32::try_from(t).unwrap_or_default());
    let typed = tokens.iter().zip(types);
    let tokenizer = if is_bpe {
        let merges = file.metadata("tokenizer.ggml.merges").and_then(MetaValue::as_str_array);
        let merges = merges.ok_or("tokenizer.ggml.merges is missing or not a list of strings")?;
        let pre = text("tokenizer.ggml.pre").unwrap_or("gpt-2");
        Tokenizer::from_gguf_bpe(typed, merges.iter(), pre)
    } else {
        Tokenizer::from_gguf(typed)
    };
    tokenizer.map_err(|e| format!("tokenizer.ggml.tokens: {e}"))
}

#[cfg(test)]
mod tests {
    use super::{DocumentTokens, gguf_tokenizer};
    use anser_format::ModelFile;

    /// The tokenizer that a GGUF file of a Qwen2 hybrid carries gives llama.cpp's ids; `<|im_end|>` is text.
    #[test]
    fn tokenizers_of_gguf_files_are_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/unpacked/formats/gguf/");
        let file = ModelFile::open(format!("{folder}rwkv6qwen2.gguf")).expect("run scripts/prepare");
        let tokens = file.metadata("tokenizer.ggml.tokens").unwrap();
        let tokenizer = gguf_tokenizer(&file, tokens).unwrap();
        let texts = std::fs::read_to_string(format!("{folder}rwkv6qwen2.tokens.json")).unwrap();
        let texts: serde_json::Value = serde_json::from_str(&texts).unwrap();
        for text in texts.as_array().unwrap() {
            let ids: Vec<u32> = serde_json::from_value(text["ids"].clone()).unwrap();
            assert_eq!(tokenizer.encode(text["text"].as_str().unwrap().as_bytes()), ids, "{}", text["text"]);
        }
    }

    /// Qwen2's token 0 is an exclamation mark.
    #[test]
    fn documents_end_as_their_vocabulary_has_it() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/unpacked/formats/");
        for (name, start, ends) in [("gguf/arwkv7.gguf", 278, &[278, 279][..]), ("m6.pth", 0, &[0][..])] {
            let file = ModelFile::open(format!("{folder}{name}")).expect("run scripts/prepare");
            let found = DocumentTokens::of(&file, 280);
            assert_eq!((found.start, &found.ends[..]), (start, ends), "{name}");
            // Ids that the model does not have count for nothing.
            let found = DocumentTokens::of(&file, 100);
            assert_eq!((found.start, &found.ends[..]), (0, &[0][..]), "{name}");
        }
    }
}
