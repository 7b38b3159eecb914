//! Texts or token ids, one or several.

use crate::error::ApiError;
use crate::served::Served;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use std::fmt;

/// `prompt` of completions and `input` of embeddings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Prompts {
    Texts(Vec<String>),
    Ids(Vec<Vec<u32>>),
}

impl Prompts {
    /// The tokens of each, at most `max` of them. Errors name the field `name`.
    pub(crate) fn tokens(&self, name: &'static str, served: &Served, max: usize) -> Result<Vec<Vec<u32>>, ApiError> {
        let wrong = |reason: String| ApiError::invalid(name, format!("{name}: {reason}"));
        let n = match self {
            Prompts::Texts(texts) => texts.len(),
            Prompts::Ids(lists) => lists.len(),
        };
        if !(1..=max).contains(&n) {
            return Err(wrong(format!("expected 1 to {max} texts or lists of token ids, found {n}")));
        }
        let tokens: Vec<Vec<u32>> = match self {
            Prompts::Texts(texts) => {
                let tokenizer = served.model.tokenizer()?;
                texts.iter().map(|text| tokenizer.encode(text.as_bytes())).collect()
            }
            Prompts::Ids(lists) => lists.clone(),
        };
        for ids in &tokens {
            served.model.check_ids(ids).map_err(|error| wrong(error.to_string()))?;
            let (max, n) = (served.limits.max_prompt_tokens, ids.len());
            if n > max {
                return Err(wrong(format!("expected at most {max} tokens, found {n}")));
            }
        }
        Ok(tokens)
    }
}

impl<'de> Deserialize<'de> for Prompts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Prompts, D::Error> {
        deserializer.deserialize_any(PromptsVisitor)
    }
}

struct PromptsVisitor;

impl<'de> Visitor<'de> for PromptsVisitor {
    type Value = Prompts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, texts, token ids or lists of token ids")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Prompts, E> {
        Ok(Prompts::Texts(vec![text.to_owned()]))
    }

    /// The first item says what the others are.
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Prompts, A::Error> {
        Ok(match items.next_element()? {
            None => Prompts::Texts(vec![]),
            Some(Item::Text(first)) => Prompts::Texts(rest(first, items)?),
            Some(Item::Id(first)) => Prompts::Ids(vec![rest(first, items)?]),
            Some(Item::Ids(first)) => Prompts::Ids(rest(first, items)?),
        })
    }
}

/// `first` and the items after it.
fn rest<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(first: T, mut items: A) -> Result<Vec<T>, A::Error> {
    let mut all = vec![first];
    while let Some(item) = items.next_element()? {
        all.push(item);
    }
    Ok(all)
}

/// The first of several items.
#[derive(Deserialize)]
#[serde(untagged)]
enum Item {
    Text(String),
    Id(u32),
    Ids(Vec<u32>),
}

#[cfg(test)]
mod tests {
    use super::Prompts;

    #[test]
    fn four_forms_are_read() {
        let read = |json: &str| serde_json::from_str::<Prompts>(json).ok();
        assert_eq!(read("\"a\""), Some(Prompts::Texts(vec!["a".into()])));
        assert_eq!(read("[\"a\", \"b\"]"), Some(Prompts::Texts(vec!["a".into(), "b".into()])));
        assert_eq!(read("[1, 2]"), Some(Prompts::Ids(vec![vec![1, 2]])));
        assert_eq!(read("[[1, 2], [], [3]]"), Some(Prompts::Ids(vec![vec![1, 2], vec![], vec![3]])));
        assert_eq!(read("[]"), Some(Prompts::Texts(vec![])));
        for wrong in ["7", "[\"a\", 1]", "[1, \"a\"]", "[-1]", "[1.5]", "{}", "[[\"a\"]]", "[true]"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
