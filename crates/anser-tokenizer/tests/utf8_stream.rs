//! A stream's pieces together are what `String::from_utf8_lossy` makes of all bytes at once.

use anser_tokenizer::{Tokenizer, Utf8Stream};
use proptest::collection::vec;
use proptest::prelude::*;

fn streamed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut stream = Utf8Stream::new();
    let mut text = String::new();
    for piece in pieces {
        text += stream.push(piece);
    }
    text + stream.finish()
}

/// Bytes that begin, continue and break characters of every length.
fn tricky_bytes() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        any::<char>().prop_map(|char| char.to_string().into_bytes()),
        prop::sample::select(b"\x80\xbf\xc0\xc3\xe0\xed\xa0\xef\xf0\x90\xf4\xf5\xff a".to_vec()).prop_map(|b| vec![b]),
        Just("€".as_bytes()[..2].to_vec()),
        Just("😀".as_bytes()[..3].to_vec()),
    ];
    vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_split_gives_the_whole_text(bytes in tricky_bytes(), mut splits in vec(any::<prop::sample::Index>(), 0..20)) {
        splits.sort_by_key(|split| split.index(bytes.len() + 1));
        let mut rest = bytes.as_slice();
        let mut pieces = Vec::new();
        for split in splits {
            let at = split.index(bytes.len() + 1) - (bytes.len() - rest.len());
            let (piece, after) = rest.split_at(at);
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        let whole = String::from_utf8_lossy(&bytes);
        prop_assert_eq!(streamed(pieces), whole.as_ref());
        prop_assert_eq!(streamed(bytes.chunks(1)), whole.as_ref());
    }

    /// A stream returns every character as soon as its last byte arrives; it holds back incomplete characters only.
    #[test]
    fn characters_come_whole_and_at_once(text in any::<String>()) {
        let mut stream = Utf8Stream::new();
        for char in text.chars() {
            let mut buffer = [0; 4];
            let (last, first) = char.encode_utf8(&mut buffer).as_bytes().split_last().unwrap();
            for byte in first {
                prop_assert_eq!(stream.push(&[*byte]), "");
            }
            prop_assert_eq!(stream.push(&[*last]), char.to_string());
        }
        prop_assert_eq!(stream.finish(), "");
    }

    #[test]
    fn tokens_stream_to_their_text(text in any::<String>()) {
        let world = Tokenizer::world();
        let ids = world.encode(text.as_bytes());
        prop_assert_eq!(streamed(ids.iter().map(|&id| world.token_bytes(id).unwrap())), text);
    }
}

#[test]
fn an_invalid_beginning_is_not_held_back() {
    let mut stream = Utf8Stream::new();
    assert_eq!(stream.push(b"\xf0\x9f"), "");
    assert_eq!(stream.push(b"a"), "\u{fffd}a");
    assert_eq!(stream.push(b"\xed\xa0"), "\u{fffd}\u{fffd}");
    assert_eq!(stream.push(b"\xe2\x82"), "");
    assert_eq!(stream.finish(), "\u{fffd}");
    assert_eq!(stream.finish(), "");
    assert_eq!(stream.push("€".as_bytes()), "€");
}
