//! Finds stop texts in streamed text. A stop text ends the text and is no part of it.

use thiserror::Error;

/// Finds the first stop text in text that arrives in pieces.
///
/// The stop text that is complete first ends the text (the longest of those that end at the same place), however the
/// text is divided into pieces. Text that may yet become a stop text is held back. The time per byte does not depend on
/// the text.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    patterns: Vec<Pattern>,
    /// Text that was received and not returned yet: at least the part that any stop text has matched so far.
    held: String,
}

/// The result of a piece of text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopStep {
    /// Text before a stop text, which cannot belong to one any more.
    pub emit: String,
    /// The index in the list of the stop text that was found.
    pub hit: Option<usize>,
    /// With a hit, the text after the stop text in this piece; otherwise empty.
    pub rest: String,
}

/// The error of a list of stop texts that cannot be searched for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StopError {
    /// An empty text would end everything before it begins.
    #[error("stop text {index} is empty: expected at least one character")]
    Empty {
        /// The index of the stop text in the list.
        index: usize,
    },
}

impl StopMatcher {
    /// A matcher for these stop texts; with an empty list it returns all text unchanged.
    ///
    /// # Errors
    /// A stop text is empty.
    pub fn new(stops: Vec<String>) -> Result<Self, StopError> {
        if let Some(index) = stops.iter().position(String::is_empty) {
            return Err(StopError::Empty { index });
        }
        Ok(StopMatcher::of_non_empty(stops))
    }

    /// [`StopMatcher::new`] for stop texts of which none is empty.
    pub(crate) fn of_non_empty(stops: Vec<String>) -> Self {
        StopMatcher { patterns: stops.into_iter().map(Pattern::new).collect(), held: String::new() }
    }

    /// Takes the next piece of text. After a hit the matcher starts afresh, as if nothing had come before.
    pub fn push(&mut self, piece: &str) -> StopStep {
        let n_held = self.held.len();
        self.held.push_str(piece);
        for (at, &byte) in piece.as_bytes().iter().enumerate() {
            if let Some((hit, n_bytes)) = self.advance(byte) {
                let end = n_held + at + 1;
                let rest = self.held.split_off(end);
                self.held.truncate(end - n_bytes);
                return StopStep { emit: self.finish(), hit: Some(hit), rest };
            }
        }
        let n_matched = self.patterns.iter().map(|p| p.n_matched).max().unwrap_or(0);
        let held = self.held.split_off(self.held.len() - n_matched);
        StopStep { emit: std::mem::replace(&mut self.held, held), hit: None, rest: String::new() }
    }

    /// Ends the text and returns the text that was held back. The matcher starts afresh.
    pub fn finish(&mut self) -> String {
        for pattern in &mut self.patterns {
            pattern.n_matched = 0;
        }
        std::mem::take(&mut self.held)
    }

    /// Reads one byte; returns the index and length of the longest stop text that it completes.
    fn advance(&mut self, byte: u8) -> Option<(usize, usize)> {
        let mut hit: Option<(usize, usize)> = None;
        for (index, pattern) in self.patterns.iter_mut().enumerate() {
            let n_bytes = pattern.text.len();
            if pattern.advance(byte) && hit.is_none_or(|(_, longest)| n_bytes > longest) {
                hit = Some((index, n_bytes));
            }
        }
        hit
    }
}

/// One stop text, and the length of its longest prefix with which the text so far ends (Knuth, Morris, Pratt).
///
/// The text arrives in whole characters and a stop text starts with a whole character, so a match of bytes always
/// begins and ends between characters: `held` can be cut there.
#[derive(Debug, Clone)]
struct Pattern {
    text: Vec<u8>,
    /// For every n, the length of the longest proper prefix of `text[..=n]` that is also its suffix.
    borders: Vec<usize>,
    /// The number of bytes of `text` matched. It is less than the length, since the matcher starts afresh after a hit.
    n_matched: usize,
}

impl Pattern {
    fn new(text: String) -> Self {
        let text = text.into_bytes();
        let mut borders = vec![0; text.len()];
        for n in 1..text.len() {
            borders[n] = extend(&text, &borders, borders[n - 1], text[n]);
        }
        Pattern { text, borders, n_matched: 0 }
    }

    /// Reads one byte; returns whether it completes the text.
    fn advance(&mut self, byte: u8) -> bool {
        self.n_matched = extend(&self.text, &self.borders, self.n_matched, byte);
        self.n_matched == self.text.len()
    }
}

/// The number of bytes of `text` that are matched after `byte`, if `n` bytes (less than all) were matched before.
fn extend(text: &[u8], borders: &[usize], mut n: usize, byte: u8) -> usize {
    while n > 0 && text[n] != byte {
        n = borders[n - 1];
    }
    if text[n] == byte { n + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matcher(stops: &[&str]) -> StopMatcher {
        StopMatcher::new(stops.iter().map(ToString::to_string).collect()).unwrap()
    }

    fn step(emit: &str, hit: Option<usize>, rest: &str) -> StopStep {
        StopStep { emit: emit.into(), hit, rest: rest.into() }
    }

    #[test]
    fn finds_a_stop_text_across_pieces() {
        let mut stops = matcher(&["\n\nUser:"]);
        assert_eq!(stops.push("Yes.\n"), step("Yes.", None, ""));
        assert_eq!(stops.push("\nUs"), step("", None, ""));
        assert_eq!(stops.push("er: and"), step("", Some(0), " and"));
        assert_eq!(stops.finish(), "");
    }

    #[test]
    fn gives_back_what_turned_out_to_be_no_stop_text() {
        let mut stops = matcher(&["\n\nUser:"]);
        assert_eq!(stops.push("a\n\n"), step("a", None, ""));
        assert_eq!(stops.push("\nUse"), step("\n", None, ""), "the last two line ends may still begin one");
        assert_eq!(stops.push("s"), step("\n\nUses", None, ""));
    }

    #[test]
    fn gives_out_the_held_text_at_the_end() {
        let mut stops = matcher(&["END"]);
        assert_eq!(stops.push("the EN"), step("the ", None, ""));
        assert_eq!(stops.finish(), "EN");
        assert_eq!(stops.push("D"), step("D", None, ""), "starts afresh");
    }

    #[test]
    fn the_first_complete_stop_text_wins_and_the_longest_of_equals() {
        assert_eq!(matcher(&["abcd", "bc"]).push("abcd"), step("a", Some(1), "d"));
        assert_eq!(matcher(&["c", "abc", "bc", "abc"]).push("xabc"), step("x", Some(1), ""));
    }

    #[test]
    fn without_stop_texts_everything_passes() {
        assert_eq!(matcher(&[]).push("any\n\ntext"), step("any\n\ntext", None, ""));
    }

    #[test]
    fn refuses_an_empty_stop_text() {
        assert_eq!(StopMatcher::new(vec!["a".into(), String::new()]).unwrap_err(), StopError::Empty { index: 1 });
    }

    #[test]
    fn characters_that_share_leading_bytes_are_not_cut() {
        let mut stops = matcher(&["é"]);
        assert_eq!(stops.push("èà"), step("èà", None, ""));
        assert_eq!(stops.push("aéè"), step("a", Some(0), "è"));
    }

    /// Text before the first stop text and its index, by searching the whole text.
    fn naive<'a>(text: &'a str, stops: &[String]) -> (&'a str, Option<usize>) {
        let found = stops.iter().enumerate().filter_map(|(i, s)| text.find(s).map(|at| (at + s.len(), at, i)));
        found.min().map_or((text, None), |(_, at, index)| (&text[..at], Some(index)))
    }

    proptest! {
        #[test]
        fn equals_a_search_of_the_whole_text_however_it_is_split(
            pieces in prop::collection::vec("[abé\n]{0,4}", 0..12),
            stops in prop::collection::vec("[abé\n]{1,5}", 0..4),
        ) {
            let text = pieces.concat();
            let mut matcher = StopMatcher::new(stops.clone()).unwrap();
            let (mut emitted, mut hit, mut received) = (String::new(), None, String::new());
            for piece in &pieces {
                let step = matcher.push(piece);
                received += piece;
                emitted += &step.emit;
                hit = step.hit;
                if hit.is_some() {
                    prop_assert!(received.ends_with(&step.rest));
                    break;
                }
                let held = received.strip_prefix(&emitted).unwrap();
                let proper_prefix = |n: usize| stops.iter().any(|s| s.len() > n && s.starts_with(&received[received.len() - n..]));
                let longest = (0..=received.len()).rev().filter(|&n| received.is_char_boundary(received.len() - n)).find(|&n| n == 0 || proper_prefix(n));
                prop_assert_eq!(held.len(), longest.unwrap(), "holds back exactly what may become a stop text");
            }
            if hit.is_none() {
                emitted += &matcher.finish();
            }
            prop_assert_eq!((emitted.as_str(), hit), naive(&text, &stops));
        }
    }
}
