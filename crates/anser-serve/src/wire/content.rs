//! Texts that clients send as a string or as a list of parts.

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use std::fmt;

/// The content of a message: one text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Content(pub(crate) String);

/// A part of a content.
#[derive(Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
    refusal: Option<String>,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Content, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of parts of type text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Content, E> {
        Ok(Content(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Content, E> {
        Ok(Content(text))
    }

    /// Parts are joined by line ends.
    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
        let mut texts = vec![];
        while let Some(part) = parts.next_element::<Part>()? {
            let text = match part.r#type.as_str() {
                "text" | "input_text" | "output_text" => part.text,
                "refusal" => part.refusal,
                "image_url" | "input_image" | "input_audio" | "file" | "input_file" | "video_url" => {
                    let kind = part.r#type;
                    return Err(A::Error::custom(format!("a part of type {kind:?}: this model reads text alone")));
                }
                other => return Err(A::Error::custom(format!("expected a part of type \"text\", found {other:?}"))),
            };
            let kind = part.r#type;
            texts.push(text.ok_or_else(|| A::Error::custom(format!("a part of type {kind:?} has no text")))?);
        }
        Ok(Content(texts.join("\n")))
    }
}

#[cfg(test)]
mod tests {
    use super::Content;

    #[test]
    fn parts_are_joined_and_other_kinds_refused() {
        let read =
            |json: &str| serde_json::from_str::<Content>(json).map(|content| content.0).map_err(|e| e.to_string());
        assert_eq!(read(r#""a""#).unwrap(), "a");
        assert_eq!(read(r#"[{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]"#).unwrap(), "a\nb");
        assert_eq!(read("[]").unwrap(), "");
        for (json, told) in [
            (r#"[{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]"#, "text alone"),
            (r#"[{"type": "smell", "text": "x"}]"#, "smell"),
            (r#"[{"text": "x"}]"#, "type"),
            (r#"[{"type": "text"}]"#, "no text"),
            ("7", "a text or a list"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(told), "{json}: {error}");
        }
    }
}
