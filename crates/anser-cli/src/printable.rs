//! Makes text from other sources safe for a terminal: file names, metadata, tensor names, messages and the output of a
//! model.
//!
//! A terminal executes control characters, and direction marks can make a text look like another one. A downloaded file
//! or a prompt must not be able to send either. Pipes and files get the bytes unchanged.

use anser::Utf8Stream;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Whether a terminal executes `c` instead of showing it: controls (U+0000 to U+001F, U+007F to U+009F), format characters
/// (marks of direction, joiners, tags, the byte order mark), separators of lines and paragraphs.
fn steers(c: char) -> bool {
    matches!(
        c.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
}

/// Whether running text, unlike a name, needs `c`, though it is a format character.
///
/// - U+00AD marks a place where a word may be hyphenated.
/// - U+200C and U+200D separate and join letters in Persian and Indian scripts, and join several emojis to one.
/// - U+061C, U+200E and U+200F act as a letter of one direction, which places the punctuation beside them in Arabic and
///   Hebrew. They do not reorder other letters. Embeddings, overrides and isolates (U+202A to U+202E, U+2066 to U+2069)
///   do, and stay escaped.
/// - The others are visible signs of numbers, years and verses in Arabic, Syriac and Kaithi.
fn is_part_of_text(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{200c}'..='\u{200f}'
            | '\u{600}'..='\u{605}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{110bd}'
            | '\u{110cd}'
    )
}

/// Whether `c` may not reach a terminal as a part of running text. New lines and tabs may.
pub(crate) fn steers_in_text(c: char) -> bool {
    !matches!(c, '\n' | '\t') && steers(c) && !is_part_of_text(c)
}

/// `text`, a name or a value, on one line, with characters that a terminal would execute written as `\u{202e}`.
pub(crate) fn printable(text: &str) -> String {
    escaped(text, steers)
}

/// `text`, which may have several lines, with characters that a terminal would execute written as `\u{202e}`.
pub(crate) fn printable_text(text: &str) -> String {
    escaped(text, steers_in_text)
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_escaped(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// Converts text for a terminal that arrives in pieces of bytes. A piece may end within a character or a line end.
#[derive(Debug, Default)]
pub(crate) struct TerminalText {
    decoder: Utf8Stream,
    /// Whether the last character was a carriage return. One before a line feed is left out, since the two are one line
    /// end. Any other is escaped, since the text after it would overwrite the line.
    after_return: bool,
}

impl TerminalText {
    /// Takes the next bytes and returns the text that can be shown so far.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        let text = self.decoder.push(bytes);
        let mut shown = String::with_capacity(text.len());
        for c in text.chars() {
            if std::mem::take(&mut self.after_return) && c != '\n' {
                shown.push_str("\\r");
            }
            match c {
                '\r' => self.after_return = true,
                c if steers_in_text(c) => shown.extend(c.escape_default()),
                c => shown.push(c),
            }
        }
        shown
    }

    /// Ends the text and returns the part that was held back.
    pub(crate) fn finish(&mut self) -> String {
        let held = if std::mem::take(&mut self.after_return) { "\\r" } else { "" };
        held.to_owned() + self.decoder.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{TerminalText, printable, printable_text, steers};

    #[test]
    fn names_keep_no_character_that_steers() {
        assert_eq!(printable("a\u{1b}]0;t\u{7}\n\t\r"), r"a\u{1b}]0;t\u{7}\n\t\r");
        assert_eq!(printable("\u{7f}\u{85}\u{9b}31m"), r"\u{7f}\u{85}\u{9b}31m");
        assert_eq!(printable("safe\u{202e}gnp.exe"), r"safe\u{202e}gnp.exe");
        assert_eq!(
            printable("\u{feff}\u{2066}\u{e0041}\u{200d}\u{2028}"),
            r"\u{feff}\u{2066}\u{e0041}\u{200d}\u{2028}"
        );
        let harmless = r#"C:\models\größe "x" 模型 é 👍🏽"#;
        assert_eq!(printable(harmless), harmless);
    }

    #[test]
    fn what_the_standard_library_shows_as_it_is_does_not_steer() {
        // The oracle is `escape_debug`, which escapes all characters that are not printable by tables of its own.
        for c in ('\0'..=char::MAX).filter(|&c| steers(c)) {
            assert_ne!(c.escape_debug().to_string(), c.to_string(), "{c:?}");
        }
        for c in ('\0'..=char::MAX).filter(|c| c.is_control()) {
            assert!(steers(c), "{c:?}");
        }
    }

    #[test]
    fn text_keeps_what_its_scripts_and_emoji_need() {
        for text in ["a\n\tb", "می\u{200c}خواهم", "👩\u{200d}💻", "אבג!\u{200f} x", "co\u{ad}operate"] {
            assert_eq!(printable_text(text), text);
            assert_eq!(TerminalText::default().push(text.as_bytes()), text);
        }
        assert_eq!(printable_text("a\u{202e}b\u{1b}[2J"), r"a\u{202e}b\u{1b}[2J");
    }

    #[test]
    fn pieces_are_shown_as_the_whole_is() {
        let bytes = "é\u{1b}[31m\r\nx\ry\u{9b}2J👩\u{200d}💻\u{202e}".as_bytes();
        let shown = "é\\u{1b}[31m\nx\\ry\\u{9b}2J👩\u{200d}💻\\u{202e}";
        for n in 1..=bytes.len() {
            let mut text = TerminalText::default();
            let pieces: String = bytes.chunks(n).map(|piece| text.push(piece)).collect();
            assert_eq!(pieces + &text.finish(), shown, "pieces of {n} bytes");
        }
        let mut cut = TerminalText::default();
        assert_eq!((cut.push(b"a\xe2\x82"), cut.finish()), ("a".into(), "\u{fffd}".into()));
        assert_eq!((cut.push(b"b\r"), cut.finish()), ("b".into(), "\\r".into()));
    }
}
