//! Reads `tokenizer.json`, the file of the package `tokenizers`, if it describes a byte-level BPE.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::collections::HashMap;

use super::{Parts, Pattern, token_bytes};
use crate::vocabulary::{MAX_VOCAB_SIZE, VocabularyError};

/// Whether a text in JSON is a `tokenizer.json` and not a vocabulary of ids.
pub(crate) fn is_tokenizer_json(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Probe {
        model: Option<IgnoredAny>,
    }
    serde_json::from_str::<Probe>(text).is_ok_and(|probe| probe.model.is_some())
}

#[derive(Deserialize)]
struct File {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<Added>,
    pre_tokenizer: Option<Value>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: HashMap<String, usize>,
    merges: Vec<Merge>,
}

/// A pair of tokens: in older files one text with a space between them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair([String; 2]),
    Text(String),
}

#[derive(Deserialize)]
struct Added {
    id: usize,
    content: String,
    #[serde(default)]
    special: bool,
}

/// The parts of the tokenizer that `text` describes. Special tokens have no text here: `<|endoftext|>` in a prompt is thirteen
/// characters, never the end of a text. Texts are taken as they are, also where the file asks for a normal form.
pub(crate) fn parse(text: &str) -> Result<Parts, VocabularyError> {
    let invalid = |problem: String| VocabularyError::Json { problem };
    let file: File = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
    if let Some(kind) = file.model.kind.as_deref().filter(|kind| *kind != "BPE") {
        return Err(invalid(format!("a tokenizer of kind {kind:?}, but \"BPE\" is read")));
    }
    let pattern = pattern(file.pre_tokenizer.as_ref()).map_err(invalid)?;
    let last = file.model.vocab.values().copied().chain(file.added_tokens.iter().map(|added| added.id)).max();
    let size = last.map_or(0, |last| last.saturating_add(1));
    if size > MAX_VOCAB_SIZE {
        return Err(VocabularyError::TooManyTokens);
    }
    let mut tokens: Vec<Option<Vec<u8>>> = vec![None; size];
    for (token, id) in file.model.vocab {
        // What is not written in the alphabet is the text of an added token.
        tokens[id] = token_bytes(&token).or_else(|| Some(token.into_bytes()));
    }
    let (mut added, mut control) = (vec![], HashMap::new());
    for Added { id, content, special } in file.added_tokens {
        if special {
            control.insert(content.clone(), id as u32);
        }
        tokens[id] = (!special).then(|| content.into_bytes());
        if !special {
            added.push(id as u32);
        }
    }
    let bytes = |token: &str| token_bytes(token).ok_or_else(|| invalid(format!("a merge of {token:?}")));
    let pair = |merge| match merge {
        Merge::Pair([left, right]) => Ok([bytes(&left)?, bytes(&right)?]),
        Merge::Text(text) => match text.split_once(' ') {
            Some((left, right)) => Ok([bytes(left)?, bytes(right)?]),
            None => Err(invalid(format!("a merge {text:?}, but two tokens are needed"))),
        },
    };
    let merges = file.model.merges.into_iter().map(pair).collect::<Result<_, _>>()?;
    Ok(Parts { tokens, merges, added, control, pattern })
}

/// The pattern that the file's pre-tokenizers amount to.
fn pattern(pre_tokenizer: Option<&Value>) -> Result<Pattern, String> {
    let Some(pre_tokenizer) = pre_tokenizer else {
        return Err("it has no pre-tokenizer, so it is no byte-level BPE".into());
    };
    let steps = match pre_tokenizer["pretokenizers"].as_array() {
        Some(steps) => steps.iter().collect(),
        None => vec![pre_tokenizer],
    };
    let mut found = None;
    let mut is_byte_level = false;
    for step in steps {
        match step["type"].as_str().unwrap_or_default() {
            "ByteLevel" => {
                if step["add_prefix_space"].as_bool() == Some(true) {
                    return Err("it puts a space in front of texts, which is not supported".into());
                }
                is_byte_level = true;
                if step["use_regex"].as_bool() != Some(false) {
                    found = found.or(Some(Pattern::Gpt2));
                }
            }
            "Split" => {
                let regex = step["pattern"]["Regex"].as_str().unwrap_or_default();
                found = Some(Pattern::from_regex(regex).ok_or_else(|| {
                    let beginning: String = regex.chars().take(80).collect();
                    format!("it splits texts by another pattern than GPT-2 or Qwen2: {beginning:?}")
                })?);
            }
            other => return Err(format!("a pre-tokenizer of kind {other:?}, which is not supported")),
        }
    }
    found.filter(|_| is_byte_level).ok_or_else(|| "it is no byte-level BPE".into())
}
