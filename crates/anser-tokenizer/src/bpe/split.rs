//! The patterns that split a text into pieces, which no token crosses. They are regular expressions elsewhere:
//!
//! ```text
//! GPT-2:  's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//! Qwen2:  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//! ```
//! The first alternative that matches counts. All of them but `\s+(?!\S)` need no way back.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// How a text is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// GPT-2's, which GPT-NeoX 20B shares.
    Gpt2,
    /// Qwen2's.
    Qwen2,
}

/// The patterns as `tokenizer.json` writes them.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What follows the apostrophe of an English short form.
const SHORT_FORMS: [&str; 7] = ["s", "t", "re", "ve", "m", "ll", "d"];

fn is_letter(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphabetic() } else { c.general_category_group() == GeneralCategoryGroup::Letter }
}

fn is_number(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_digit() } else { c.general_category_group() == GeneralCategoryGroup::Number }
}

/// Neither white space nor letter nor number.
fn is_other(c: char) -> bool {
    !c.is_whitespace() && !is_letter(c) && !is_number(c)
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

/// Bytes of the characters at the start of `text` that are `of_kind`.
fn run(text: &str, of_kind: impl Fn(char) -> bool) -> usize {
    text.find(|c| !of_kind(c)).unwrap_or(text.len())
}

impl Pattern {
    /// The pattern that is written so.
    pub(crate) fn from_regex(regex: &str) -> Option<Pattern> {
        match regex {
            GPT2 => Some(Pattern::Gpt2),
            QWEN2 => Some(Pattern::Qwen2),
            _ => None,
        }
    }

    /// The pattern that llama.cpp calls by this name (`tokenizer.ggml.pre`).
    pub(crate) fn from_llama(pre: &str) -> Option<Pattern> {
        match pre {
            "gpt-2" => Some(Pattern::Gpt2),
            "qwen2" | "deepseek-r1-qwen" => Some(Pattern::Qwen2),
            _ => None,
        }
    }

    /// Bytes of the first piece of `text`, at least one; 0 for an empty text.
    pub(crate) fn piece_len(self, text: &str) -> usize {
        if let Some(n) = self.short_form(text) {
            return n;
        }
        match self {
            Pattern::Gpt2 => gpt2(text),
            Pattern::Qwen2 => qwen2(text),
        }
    }

    /// An apostrophe and what follows it in short forms: in Qwen2's pattern in any case.
    fn short_form(self, text: &str) -> Option<usize> {
        let rest = text.strip_prefix('\'')?;
        SHORT_FORMS.iter().find_map(|form| {
            let mut chars = rest.chars();
            let mut n = 1;
            for expected in form.chars() {
                let c = chars.next()?;
                let is_same = match self {
                    Pattern::Gpt2 => c == expected,
                    // The long s is a form of s.
                    Pattern::Qwen2 => c.to_ascii_lowercase() == expected || (c, expected) == ('ſ', 's'),
                };
                if !is_same {
                    return None;
                }
                n += c.len_utf8();
            }
            Some(n)
        })
    }
}

/// ` ?` and a run of letters, of numbers or of others.
fn gpt2(text: &str) -> usize {
    let words = text.strip_prefix(' ').unwrap_or(text);
    let n_space = text.len() - words.len();
    match words.chars().next() {
        Some(c) if is_letter(c) => n_space + run(words, is_letter),
        Some(c) if is_number(c) => n_space + run(words, is_number),
        Some(c) if is_other(c) => n_space + run(words, is_other),
        _ => white_space(text),
    }
}

fn qwen2(text: &str) -> usize {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    let rest = chars.as_str();
    if is_letter(first) {
        return run(text, is_letter);
    }
    if !is_line_end(first) && !is_number(first) && rest.starts_with(is_letter) {
        return first.len_utf8() + run(rest, is_letter);
    }
    if is_number(first) {
        return first.len_utf8();
    }
    let words = text.strip_prefix(' ').unwrap_or(text);
    if words.starts_with(is_other) {
        let n = text.len() - words.len() + run(words, is_other);
        return n + run(&text[n..], is_line_end);
    }
    // White space up to its last line end.
    let space = &text[..run(text, char::is_whitespace)];
    match space.rfind(is_line_end) {
        Some(last) => last + 1,
        None => white_space(text),
    }
}

/// White space, but for the last of several where a word follows, which takes it.
fn white_space(text: &str) -> usize {
    let n = run(text, char::is_whitespace);
    let last = text[..n].chars().next_back().map_or(0, char::len_utf8);
    if n < text.len() && n > last { n - last } else { n }
}
