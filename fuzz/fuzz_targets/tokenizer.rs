//! Any text through the World tokenizer, and through vocabularies made of the input.
#![no_main]

use anser_tokenizer::{Tokenizer, Utf8Stream, unescape_gguf_token};
use libfuzzer_sys::fuzz_target;

fn check(tokenizer: &Tokenizer, text: &[u8]) {
    let ids = tokenizer.encode(text);
    assert_eq!(tokenizer.decode(&ids).as_deref(), Ok(text));
    // The match is greedy: no id could be replaced by that of a longer token.
    let mut at = 0;
    let mut stream = Utf8Stream::new();
    let mut streamed = String::new();
    for id in ids {
        let token = tokenizer.token_bytes(id).unwrap_or_default();
        assert!(!token.is_empty() && text[at..].starts_with(token));
        at += token.len();
        streamed.push_str(stream.push(token));
    }
    streamed.push_str(stream.finish());
    assert_eq!(streamed, String::from_utf8_lossy(text));
}

fuzz_target!(|input: (Vec<Vec<u8>>, &[u8])| {
    let (tokens, text) = input;
    check(&Tokenizer::world(), text);
    if let Ok(vocabulary) = std::str::from_utf8(text) {
        let _ = Tokenizer::from_vocab_text(vocabulary);
        let _ = unescape_gguf_token(vocabulary);
    }
    let bytes = (0..=255u8).map(|b| vec![b]);
    if let Ok(tokenizer) = Tokenizer::from_tokens(bytes.chain(tokens.iter().cloned()).map(Some)) {
        check(&tokenizer, text);
        check(&tokenizer, &tokens.concat());
    }
    let _ = Tokenizer::from_tokens(tokens.into_iter().map(Some));
});
