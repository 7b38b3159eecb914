//! Vocabularies from GGUF lists, token lists and vocabulary files: good ones, and ones made to cause harm.

use anser_tokenizer::{
    DecodeError, EscapeError, LineError, MAX_TOKEN_LEN, MAX_VOCAB_SIZE, Tokenizer, VocabularyError, unescape_gguf_token,
};

const WORLD_FILE: &str = include_str!("../vocab/rwkv_vocab_v20230424.txt");

const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;

fn single_bytes() -> Vec<Vec<u8>> {
    (0..=u8::MAX).map(|byte| vec![byte]).collect()
}

/// A vocabulary of all single bytes and then these tokens, from id 256.
fn with_single_bytes(tokens: &[&[u8]]) -> Result<Tokenizer, VocabularyError> {
    Tokenizer::from_tokens(single_bytes().into_iter().chain(tokens.iter().map(|token| token.to_vec())).map(Some))
}

/// What Python's `repr(bytes)[2:-1]` writes.
fn python_repr(token: &[u8]) -> String {
    let quote = if token.contains(&b'\'') && !token.contains(&b'"') { '"' } else { '\'' };
    let escape = |&byte: &u8| match byte {
        b'\t' => r"\t".to_owned(),
        b'\n' => r"\n".to_owned(),
        b'\r' => r"\r".to_owned(),
        b'\\' => r"\\".to_owned(),
        b' '..=b'~' if char::from(byte) == quote => format!("\\{quote}"),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    token.iter().map(escape).collect()
}

/// The World vocabulary as a GGUF file lists it.
fn world_as_gguf() -> Vec<(String, i32)> {
    let world = Tokenizer::world();
    let normal = (1..65530).map(|id| (python_repr(world.token_bytes(id).unwrap()), NORMAL));
    let padding = (65530..65536).map(|id| (format!("[PAD{id}]"), UNUSED));
    [("<s>".to_owned(), CONTROL)].into_iter().chain(normal).chain(padding).collect()
}

#[test]
fn every_world_token_survives_gguf_escaping() {
    let world = Tokenizer::world();
    for (id, (text, token_type)) in (0..).zip(world_as_gguf()) {
        if token_type == NORMAL {
            assert_eq!(unescape_gguf_token(&text).unwrap(), world.token_bytes(id).unwrap(), "{id}: {text}");
        }
    }
}

#[test]
fn control_and_unused_tokens_are_ordinary_text() {
    let text = b"<s>[PAD65530]</s>";
    let world = Tokenizer::world();
    assert_eq!(world.encode(b"<s>"), [61, 116, 63]);
    assert_eq!(world.decode(&world.encode(text)).unwrap(), text);
    let from_gguf = Tokenizer::from_gguf(world_as_gguf()).unwrap();
    assert_eq!(from_gguf.encode(text), world.encode(text));
    assert!(from_gguf.encode(text).iter().all(|&id| id != 0 && id < 65530));
}

#[test]
fn small_gguf_vocabulary() {
    let words = (0..43).map(|i| (format!("word{i:02}\\n"), NORMAL));
    let bytes = (0..=u8::MAX).map(|byte| (python_repr(&[byte]), NORMAL));
    let tokens = [("<s>".to_owned(), CONTROL)].into_iter().chain(bytes).chain(words);
    let tokenizer = Tokenizer::from_gguf(tokens).unwrap();
    assert_eq!(tokenizer.vocab_size(), 300);
    assert_eq!(tokenizer.max_token_len(), 7);
    assert_eq!(tokenizer.encode(b"<s>word07\nword"), [61, 116, 63, 264, 120, 112, 115, 101]);
    assert_eq!(tokenizer.decode(&[0, 264, 0]).unwrap(), b"word07\n");
}

#[test]
fn gguf_escapes() {
    assert_eq!(unescape_gguf_token(r#"\t\n\r\\\'\"\x00\xfF\x5c'"#).unwrap(), b"\t\n\r\\'\"\x00\xff\\'");
    assert_eq!(unescape_gguf_token("é").unwrap(), "é".as_bytes());
    assert_eq!(unescape_gguf_token(r"ab\q"), Err(EscapeError::Unknown { at: 2, char: b'q' }));
    assert_eq!(unescape_gguf_token(r"\u0041"), Err(EscapeError::Unknown { at: 0, char: b'u' }));
    assert_eq!(unescape_gguf_token("ab\\"), Err(EscapeError::Unfinished { at: 2, n_digits: 0 }));
    for unfinished in [r"\x", r"\x4", r"\x4g", r"\x+1", r"\x é"] {
        assert_eq!(unescape_gguf_token(unfinished), Err(EscapeError::Unfinished { at: 0, n_digits: 2 }));
    }
    let error = Tokenizer::from_gguf([("a", NORMAL), (r"\x", CONTROL), (r"a\x", NORMAL)]).unwrap_err();
    assert!(error.to_string().starts_with("token 2: byte 1: unfinished escape"), "{error}");
}

#[test]
fn world_ids_without_text() {
    let world = Tokenizer::world();
    assert_eq!((world.vocab_size(), world.max_token_len()), (65536, 128));
    assert_eq!(world.decode(&[0, 33155, 65530, 65535, 0]).unwrap(), b"Hello");
    assert_eq!(world.token_bytes(0), Some(b"".as_slice()));
    assert_eq!(world.token_bytes(65535), Some(b"".as_slice()));
    assert_eq!(world.token_bytes(65536), None);
    let error = DecodeError { id: 65536, vocab_size: 65536 };
    assert_eq!(world.decode(&[1, 65536]), Err(error));
    assert_eq!(error.to_string(), "token id 65536 is not in the vocabulary; expected an id below 65536");
    assert_eq!(world.decode(&[u32::MAX]), Err(DecodeError { id: u32::MAX, vocab_size: 65536 }));
}

#[test]
fn every_byte_and_byte_pair_comes_back() {
    let world = Tokenizer::world();
    for byte in 0..=u8::MAX {
        assert_eq!(world.encode(&[byte]), [u32::from(byte) + 1]);
    }
    for pair in 0..=u16::MAX {
        let text = pair.to_be_bytes();
        assert_eq!(world.decode(&world.encode(&text)).unwrap(), text);
    }
    assert_eq!(world.encode(b"\xff\xff"), [256, 256]);
    assert!(world.encode(b"").is_empty());
}

#[test]
fn vocabulary_file() {
    let tokenizer = Tokenizer::from_vocab_text(WORLD_FILE).unwrap();
    let world = Tokenizer::world();
    assert_eq!(tokenizer.vocab_size(), 65530);
    for id in 0..65530 {
        assert_eq!(tokenizer.token_bytes(id), world.token_bytes(id), "{id}");
    }
    assert_eq!(tokenizer.encode(WORLD_FILE.as_bytes()), world.encode(WORLD_FILE.as_bytes()));
}

#[test]
fn vocabulary_file_literals() {
    let bytes: String = (0..=255).map(|byte| format!("{} b'\\x{byte:02x}' 1\n", byte + 1)).collect();
    let text = bytes
        + "300 ' \\'\" ' 4\r\n"
        + "299 \"it's\" 4\n"
        + "301 '\\u00e9\\U0001f600\\xe9' 8\n"
        + "302 b'\\xe9\\\\x' 3\n"
        + "303 'é b' 4\n";
    let tokenizer = Tokenizer::from_vocab_text(&text).unwrap();
    assert_eq!(tokenizer.vocab_size(), 304);
    let tokens: Vec<_> = (297..304).map(|id| tokenizer.token_bytes(id).unwrap()).collect();
    let expected: [&[u8]; 7] = [b"", b"", b"it's", b" '\" ", "é😀é".as_bytes(), b"\xe9\\x", "é b".as_bytes()];
    assert_eq!(tokens, expected);
}

#[test]
fn vocabulary_file_errors_name_the_line() {
    let id = |found: &str| LineError::Id { found: found.to_owned() };
    let length = |n_bytes, found: &str| LineError::Length { n_bytes, found: found.to_owned() };
    let cases = [
        ("\n2 'a' 1", LineError::Shape),
        ("\r\n2 'a' 1", LineError::Shape),
        ("2", LineError::Shape),
        ("2 'a'", LineError::Shape),
        ("x 'a' 1", id("x")),
        ("-1 'a' 1", id("-1")),
        ("1048576 'a' 1", id("1048576")),
        ("99999999999999999999999 'a' 1", id("99999999999999999999999")),
        ("1 'a' 1", LineError::RepeatedId { id: 1 }),
        ("2 a 1", LineError::Literal),
        ("2 'a\" 1", LineError::Literal),
        ("2 ' 1", LineError::Literal),
        ("2 b 1", LineError::Literal),
        ("2  1", LineError::Literal),
        ("2 'é' 1", length(2, "1")),
        ("2 'a' ", length(1, "")),
        ("2 'a' 1x", length(1, "1x")),
        (r"2 '\N{DASH}' 3", EscapeError::Unknown { at: 0, char: b'N' }.into()),
        (r"2 'a\u123' 3", EscapeError::Unfinished { at: 1, n_digits: 4 }.into()),
        (r"2 '\ud800' 3", EscapeError::NoCharacter { at: 0, code_point: 0xd800 }.into()),
        (r"2 '\' 1", EscapeError::Unfinished { at: 0, n_digits: 0 }.into()),
    ];
    for (line, problem) in cases {
        let error = Tokenizer::from_vocab_text(&format!("1 'z' 1\n{line}\n")).unwrap_err();
        assert_eq!(error, VocabularyError::Line { line: 2, problem }, "{line}");
        assert!(error.to_string().starts_with("vocabulary line 2: "), "{error}");
    }
}

/// All single bytes from id 1 on, and then `more`, as lines of a vocabulary file.
fn byte_lines(more: &str) -> String {
    (0..=255).map(|byte| format!("{} b'\\x{byte:02x}' 1\n", byte + 1)).collect::<String>() + more
}

#[test]
fn what_editors_do_to_a_vocabulary_file_does_not_matter() {
    let lines = byte_lines("257 'ab' 2\n");
    let expected = Tokenizer::from_vocab_text(&lines).unwrap();
    let text = b"abba\xff";
    assert_eq!(expected.encode(text), [257, 99, 98, 256]);
    for changed in [
        lines.trim_end().to_owned(),
        lines.clone() + "\n",
        lines.clone() + "\r\n\r\n\n",
        lines.replace('\n', "\r\n"),
        format!("\u{feff}{lines}"),
    ] {
        let tokenizer = Tokenizer::from_vocab_file(changed.as_bytes()).unwrap();
        assert_eq!((tokenizer.vocab_size(), tokenizer.encode(text)), (258, expected.encode(text)), "{changed:.20}");
    }
    let utf16: Vec<u8> = [0xfeff].into_iter().chain(lines.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let error = Tokenizer::from_vocab_file(&utf16).unwrap_err().to_string();
    assert!(error.contains("UTF-16") && error.contains("save it as UTF-8"), "{error}");
    let error = Tokenizer::from_vocab_file(b"1 'a' 1\n2 '\xc4' 1\n").unwrap_err();
    assert_eq!(error, VocabularyError::NotUtf8 { found: "other bytes", at: 11 });
}

/// The World vocabulary as web-rwkv's JSON has it, written by this test's own code and not by the library that reads it.
#[test]
fn a_vocabulary_in_json() {
    let world = Tokenizer::world();
    let entry = |id: u32| {
        let token = world.token_bytes(id).unwrap();
        let value = match std::str::from_utf8(token) {
            Ok(text) => {
                let unit = |unit: u16| format!("\\u{unit:04x}");
                format!("\"{}\"", text.encode_utf16().map(unit).collect::<String>())
            }
            Err(_) => format!("{token:?}"),
        };
        format!("\"{id}\": {value}")
    };
    let json = format!("{{{}}}", (1..65530).map(entry).collect::<Vec<_>>().join(",\n"));
    for json in [format!("\u{feff}{json}"), format!("\n  {json}\n\n")] {
        let tokenizer = Tokenizer::from_vocab_file(json.as_bytes()).unwrap();
        assert_eq!(tokenizer.vocab_size(), 65530);
        assert!((0..65530).all(|id| tokenizer.token_bytes(id) == world.token_bytes(id)));
        assert_eq!(tokenizer.encode(WORLD_FILE.as_bytes()), world.encode(WORLD_FILE.as_bytes()));
    }
}

#[test]
fn hostile_json_is_refused_and_the_place_named() {
    let long = format!(r#"{{"1": [{}]}}"#, vec!["7"; MAX_TOKEN_LEN + 1].join(","));
    let cases = [
        ("{", "EOF"),
        ("[1, 2]", "an object from ids to tokens"),
        ("[[[[", "an object from ids to tokens"),
        (r#"{"1": "a"} x"#, "trailing characters"),
        (r#"{"x": "a"}"#, "expected an id from 0 to 1048575, found \"x\""),
        (r#"{"-1": "a"}"#, "found \"-1\""),
        (r#"{"1048576": "a"}"#, "found \"1048576\""),
        (r#"{"1": "a", "01": "b"}"#, "id 1 was already given"),
        (r#"{"1": 7}"#, "a text or a list of bytes as token 1"),
        (r#"{"1": {"a": 1}}"#, "a text or a list of bytes as token 1"),
        (r#"{"1": null}"#, "a text or a list of bytes as token 1"),
        (r#"{"1": [256]}"#, "256"),
        (r#"{"1": [[1]]}"#, "u8"),
        (r#"{"1": "\ud800"}"#, "hex escape"),
        (&long, "token 1 has more than 255 bytes"),
    ];
    for (json, expected) in cases {
        let error = Tokenizer::from_vocab_text(json).unwrap_err().to_string();
        let is_clear = error.contains(expected) && error.contains("line 1 column") && error.len() < 200;
        assert!(is_clear, "{json:.60}: {error}");
    }
    let error = Tokenizer::from_vocab_text(r#"{"1": "a"}"#).unwrap_err();
    assert_eq!(error, VocabularyError::ByteNotCovered { byte: 0 });
}

#[test]
fn incomplete_vocabularies_are_refused() {
    let not_covered = |byte| Err(VocabularyError::ByteNotCovered { byte });
    assert_eq!(Tokenizer::from_tokens([None::<&[u8]>; 0]).map(drop), not_covered(0));
    assert_eq!(Tokenizer::from_tokens([Some(b"a")]).map(drop), not_covered(0));
    assert_eq!(Tokenizer::from_vocab_text("").map(drop), not_covered(0));
    let without_q = single_bytes().into_iter().filter(|token| token != b"q").map(Some);
    let error = Tokenizer::from_tokens(without_q.chain([Some(b"qu".to_vec())])).unwrap_err();
    assert_eq!(error, VocabularyError::ByteNotCovered { byte: b'q' });
    assert!(error.to_string().contains("0x71"), "{error}");
}

#[test]
fn oversized_vocabularies_are_refused() {
    let longest = vec![b'x'; MAX_TOKEN_LEN];
    let too_long = vec![b'x'; MAX_TOKEN_LEN + 1];
    let tokenizer = with_single_bytes(&[&longest]).unwrap();
    assert_eq!(tokenizer.encode(&[too_long.as_slice(), b"y", &longest].concat()), [256, 120, 121, 256]);
    assert_eq!(
        with_single_bytes(&[&longest, &too_long]).map(drop),
        Err(VocabularyError::TokenTooLong { id: 257, n_bytes: MAX_TOKEN_LEN + 1 })
    );
    let endless = || std::iter::repeat(Some(b"abcdefgh".as_slice()));
    assert_eq!(Tokenizer::from_tokens(std::iter::repeat(None::<&[u8]>)).map(drop), Err(VocabularyError::TooManyTokens));
    assert_eq!(Tokenizer::from_tokens(endless()).map(drop), Err(VocabularyError::TooManyTokens));
    let longest = std::iter::repeat(Some(longest));
    assert_eq!(Tokenizer::from_tokens(longest.take(MAX_VOCAB_SIZE)).map(drop), Err(VocabularyError::TextTooLong));
}

#[test]
fn repeated_and_empty_tokens() {
    let tokenizer = with_single_bytes(&[b"", b"ab", b"", b"ab", b"a"]).unwrap();
    assert_eq!(tokenizer.encode(b"abaab"), [257, 97, 257]);
    assert_eq!(tokenizer.decode(&[256, 259, 258, 260]).unwrap(), b"aba");
}

/// 2^18 tokens drawn so that they branch much and share little.
#[test]
fn large_irregular_vocabulary() {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 16).to_le_bytes()
    };
    let words: Vec<_> = (0..1 << 18).map(|i| next()[..2 + i % 5].to_vec()).collect();
    let tokens: Vec<_> = single_bytes().into_iter().chain(words).collect();
    let tokenizer = Tokenizer::from_tokens(tokens.iter().map(Some)).unwrap();
    let text = tokens.concat();
    let ids = tokenizer.encode(&text);
    assert!(ids.len() < text.len() / 2);
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
}

/// A text without any cut is one piece, whatever its length.
#[test]
fn a_text_without_cuts() {
    let pairs: Vec<_> = (0..=u16::MAX).map(|pair| pair.to_le_bytes()).collect();
    let pairs: Vec<_> = pairs.iter().map(|pair| pair.as_slice()).collect();
    let tokenizer = with_single_bytes(&pairs).unwrap();
    let text: Vec<u8> = (0..20_001_u32).map(|i| ((i * i) >> 3) as u8).collect();
    let ids = tokenizer.encode(&text);
    let expected: Vec<u32> = text
        .chunks(2)
        .map(|pair| match *pair {
            [first, second] => 256 + u32::from(u16::from_le_bytes([first, second])),
            _ => u32::from(pair[0]),
        })
        .collect();
    assert_eq!(ids, expected);
}
