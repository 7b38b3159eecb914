//! GPT-2's alphabet: every byte as a visible character, so that tokens are texts.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Bytes that stand for themselves, as characters of Latin-1.
fn is_visible(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// The byte of every character: visible ones stand for themselves, the others follow each other from U+0100 on.
static BYTES: LazyLock<HashMap<char, u8>> = LazyLock::new(|| {
    let others = (0..=u8::MAX).filter(|&byte| !is_visible(byte)).zip('\u{100}'..);
    let visible = (0..=u8::MAX).filter(|&byte| is_visible(byte)).map(|byte| (byte, char::from(byte)));
    visible.chain(others).map(|(byte, c)| (c, byte)).collect()
});

/// The bytes of a token that is written in the alphabet; `None` if a character is not of it.
pub(crate) fn token_bytes(token: &str) -> Option<Vec<u8>> {
    token.chars().map(|c| BYTES.get(&c).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character() {
        assert_eq!(BYTES.len(), 256);
        assert_eq!(token_bytes("ĠtheĊ!ÿ"), Some(b" the\n!\xff".to_vec()));
        assert_eq!(token_bytes("ĀġŃ"), Some(vec![0, 0x7f, 0xad]));
        assert_eq!((token_bytes(" "), token_bytes("日")), (None, None));
    }
}
