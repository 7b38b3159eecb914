//! Reads the calls of functions in an answer while it is generated.

use crate::ids;
use std::mem;

/// What an answer that calls functions begins with, where the prompt did not.
const FENCE: &str = "```json";

/// A piece of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallDelta {
    /// The index of the call in its answer.
    pub(crate) index: usize,
    /// Identifier and name, in the first piece alone.
    pub(crate) begin: Option<(String, String)>,
    /// More of the JSON of its arguments.
    pub(crate) arguments: String,
}

/// A whole call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// Finds the calls in the content of an answer: objects `{"name": "f", "arguments": {…}}`, one or a list of them.
#[derive(Debug)]
pub(crate) struct CallReader {
    phase: Phase,
    n_calls: usize,
    /// The functions that may be called, where the answer may also be words; `None` where it must be a call.
    known: Option<Vec<String>>,
}

#[derive(Debug)]
enum Phase {
    /// The content has not shown whether it is a call: the text so far.
    Undecided(String),
    /// The content is words.
    Words,
    /// Between calls: the text of the next one up to its arguments.
    Before(String),
    /// Within the arguments of a call.
    Arguments(Depth),
}

/// How deep a text of JSON is in objects and lists.
#[derive(Debug, Default)]
struct Depth {
    n_open: usize,
    in_text: bool,
    is_escaped: bool,
}

/// What a piece of content is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    /// Words for the reader.
    pub(crate) content: String,
    pub(crate) calls: Vec<CallDelta>,
}

impl CallReader {
    /// For an answer whose prompt has opened a call.
    pub(crate) fn forced() -> CallReader {
        CallReader { phase: Phase::Before(String::new()), n_calls: 0, known: None }
    }

    /// For an answer that may be a call of one of these functions. What looks like a call and is none stays words; what follows on a
    /// call is left out.
    pub(crate) fn optional(known: Vec<String>) -> CallReader {
        CallReader { phase: Phase::Undecided(String::new()), n_calls: 0, known: Some(known) }
    }

    /// Takes the next piece of the content.
    pub(crate) fn push(&mut self, piece: &str) -> Split {
        let mut split = Split::default();
        if let Phase::Undecided(begin) = &mut self.phase {
            begin.push_str(piece);
            let begin = mem::take(begin);
            match begin.strip_prefix(FENCE) {
                Some(rest) => {
                    self.phase = Phase::Before(String::new());
                    self.read(rest, &mut split);
                }
                None if FENCE.starts_with(&begin) => self.phase = Phase::Undecided(begin),
                None => {
                    self.phase = Phase::Words;
                    split.content = begin;
                }
            }
            return split;
        }
        self.read(piece, &mut split);
        split
    }

    /// Ends the content, and returns the words that were held back.
    pub(crate) fn finish(&mut self) -> String {
        match &mut self.phase {
            Phase::Undecided(begin) => mem::take(begin),
            Phase::Before(text) if self.n_calls == 0 && self.known.is_some() => {
                format!("{FENCE}{}", mem::take(text).trim_end())
            }
            Phase::Words | Phase::Before(_) | Phase::Arguments(_) => String::new(),
        }
    }

    /// The number of calls so far.
    pub(crate) fn n_calls(&self) -> usize {
        self.n_calls
    }

    fn read(&mut self, piece: &str, split: &mut Split) {
        for c in piece.chars() {
            match &mut self.phase {
                Phase::Undecided(_) | Phase::Words => split.content.push(c),
                Phase::Before(text) => {
                    text.push(c);
                    if c != '{' {
                        continue;
                    }
                    let is_known = |name: &String| self.known.as_ref().is_none_or(|known| known.contains(name));
                    if let Some(name) = name_before_arguments(text).filter(is_known) {
                        let begin = Some((ids::fresh("call_"), name));
                        split.calls.push(CallDelta { index: self.n_calls, begin, arguments: String::from(c) });
                        self.n_calls += 1;
                        self.phase = Phase::Arguments(Depth { n_open: 1, ..Depth::default() });
                    }
                }
                Phase::Arguments(depth) => {
                    let index = self.n_calls - 1;
                    match split.calls.last_mut().filter(|last| last.index == index) {
                        Some(last) => last.arguments.push(c),
                        None => split.calls.push(CallDelta { index, begin: None, arguments: c.into() }),
                    }
                    if depth.closes(c) {
                        self.phase = Phase::Before(String::new());
                    }
                }
            }
        }
    }
}

impl Depth {
    /// Takes the next character; whether it closes the outermost object.
    fn closes(&mut self, c: char) -> bool {
        if self.in_text {
            self.in_text = self.is_escaped || c != '"';
            self.is_escaped = c == '\\' && !self.is_escaped;
            return false;
        }
        match c {
            '"' => self.in_text = true,
            '{' | '[' => self.n_open += 1,
            '}' | ']' => self.n_open = self.n_open.saturating_sub(1),
            _ => {}
        }
        self.n_open == 0
    }
}

/// The name in `… {"name": "f", "arguments": {`.
fn name_before_arguments(text: &str) -> Option<String> {
    let text = text.strip_suffix('{')?.trim_end().strip_suffix(':')?.trim_end();
    let text = text.strip_suffix("\"arguments\"")?.trim_end().strip_suffix(',')?.trim_end();
    let text = text.strip_suffix('"')?;
    let (before, name) = text.rsplit_once('"')?;
    let before = before.trim_end().strip_suffix(':')?.trim_end();
    before.ends_with("\"name\"").then(|| name.to_owned())
}

/// Adds pieces to the calls that they belong to.
pub(crate) fn join(calls: &mut Vec<Call>, deltas: Vec<CallDelta>) {
    for CallDelta { index, begin, arguments } in deltas {
        if let Some((id, name)) = begin {
            calls.push(Call { id, name, arguments: String::new() });
        }
        if let Some(call) = calls.get_mut(index) {
            call.arguments += &arguments;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Call, CallReader, join};
    use proptest::prelude::*;

    /// The words and calls of a content that comes in pieces.
    fn read(mut reader: CallReader, pieces: &[&str]) -> (String, Vec<(String, String)>) {
        let (mut words, mut calls) = (String::new(), vec![]);
        for piece in pieces {
            let split = reader.push(piece);
            words += &split.content;
            join(&mut calls, split.calls);
        }
        words += &reader.finish();
        assert!(calls.iter().all(|call: &Call| call.id.len() == 29));
        assert_eq!(reader.n_calls(), calls.len());
        (words, calls.into_iter().map(|call| (call.name, call.arguments)).collect())
    }

    fn optional() -> CallReader {
        CallReader::optional(vec!["f".into(), "g-2".into()])
    }

    fn pairs(calls: &[(&str, &str)]) -> Vec<(String, String)> {
        calls.iter().map(|&(name, arguments)| (name.to_owned(), arguments.to_owned())).collect()
    }

    #[test]
    fn words_stay_words() {
        for words in [
            "```rust\nfn",
            "``",
            "Hi {\"name\": \"f\", \"arguments\": {}}",
            "```json\n{\"a\": 1}\n```",
            "```json\n{\"name\": \"unknown\", \"arguments\": {}}\n```",
        ] {
            let (begin, rest) = words.split_at(2);
            assert_eq!(read(optional(), &[begin, rest]), (words.to_owned(), vec![]));
        }
    }

    const LIST: &str = "[{\"name\": \"f\", \"arguments\": {\"a\": \"}\\\"]{\", \"b\": [1, {}]}}, {\"name\": \"g-2\", \"arguments\": {}}]";

    proptest! {
        #[test]
        fn calls_are_found_however_they_are_split(cuts in prop::collection::vec(0..LIST.len(), 0..6), fenced: bool) {
            let text = if fenced { format!("```json\n{LIST}\n```") } else { format!("\n{LIST}") };
            let mut cuts: Vec<usize> = cuts.into_iter().chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            let reader = if fenced { optional() } else { CallReader::forced() };
            let (words, calls) = read(reader, &pieces);
            prop_assert_eq!(words, "");
            prop_assert_eq!(calls, pairs(&[("f", "{\"a\": \"}\\\"]{\", \"b\": [1, {}]}"), ("g-2", "{}")]));
        }
    }
}
