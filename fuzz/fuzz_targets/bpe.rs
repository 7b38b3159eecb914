//! Byte-level BPE, as GGUF files and `tokenizer.json` describe it: a vocabulary of all single bytes, merges of any two tokens before
//! them, and tokens that were added. Ids are held to a plain loop over the merges, for texts that are one piece. Then the same arrays with
//! any texts in them. The target `vocabulary` reads `tokenizer.json` itself; seeds for it: `fixtures/tokenizer`.
#![no_main]

use anser_tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;
use std::ops::ControlFlow;

/// The character that stands for a byte in tokens and merges: itself if it is printable and no space, else one from U+0100 on.
fn letter(byte: u8) -> char {
    let is_itself = |byte: &u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    match is_itself(&byte) {
        true => char::from(byte),
        false => char::from_u32(0x100 + (0..byte).filter(|other| !is_itself(other)).count() as u32).unwrap(),
    }
}

/// The ids of a piece: of all pairs the one whose merge comes first is merged, until there is none.
fn merged(piece: &[u8], merges: &[(u32, u32)], ids_of_merges: &[u32]) -> Vec<u32> {
    let mut ids: Vec<u32> = piece.iter().map(|&byte| byte.into()).collect();
    loop {
        let rank = |pair: &[u32]| merges.iter().position(|&(left, right)| pair == [left, right]);
        let best = ids.windows(2).enumerate().filter_map(|(at, pair)| Some((rank(pair)?, at))).min();
        let Some((rank, at)) = best else { return ids };
        ids.splice(at..at + 2, [ids_of_merges[rank]]);
    }
}

fuzz_target!(|input: (Vec<(u16, u16)>, Vec<String>, Vec<(String, i8)>, Vec<String>, bool, Vec<u8>)| {
    let (pairs, added, typed, texts_of_merges, is_qwen2, text) = input;
    let pre = if is_qwen2 { "qwen2" } else { "gpt-2" };

    // A sound vocabulary. A merge makes the token of its text; where an earlier one has that text, it makes that token.
    let mut tokens: Vec<String> = (0..=255).map(|byte| letter(byte).to_string()).collect();
    let (mut merges, mut ids_of_merges) = (vec![], vec![]);
    for (left, right) in pairs.into_iter().take(64) {
        let pair = (u32::from(left) % tokens.len() as u32, u32::from(right) % tokens.len() as u32);
        let token = tokens[pair.0 as usize].clone() + &tokens[pair.1 as usize];
        if token.chars().count() > 100 || merges.contains(&pair) {
            continue;
        }
        let id = tokens.iter().position(|other| *other == token).unwrap_or(tokens.len());
        if id == tokens.len() {
            tokens.push(token);
        }
        merges.push(pair);
        ids_of_merges.push(id as u32);
    }
    let merge_texts: Vec<String> =
        merges.iter().map(|&(l, r)| format!("{} {}", tokens[l as usize], tokens[r as usize])).collect();
    let added: Vec<String> = added.into_iter().filter(|token| token.len() < 256).collect();
    let arrays = tokens.iter().map(|token| (&token[..], 1)).chain(added.iter().map(|token| (&token[..], 4)));
    let tokenizer = Tokenizer::from_gguf_bpe(arrays, merge_texts.iter().map(String::as_str), pre).unwrap();
    let ids = tokenizer.encode(&text);
    assert_eq!(tokenizer.decode(&ids).as_deref(), Ok(&text[..]));
    assert_eq!(tokenizer.encode_for(&text, |_| ControlFlow::Continue(())), Some(ids));
    // Letters are never split.
    let word: Vec<u8> = text.iter().map(|byte| b'a' + byte % 26).collect();
    if added.iter().all(|token| token.is_empty() || !word.windows(token.len()).any(|part| part == token.as_bytes())) {
        assert_eq!(tokenizer.encode(&word), merged(&word, &merges, &ids_of_merges));
    }

    let arrays = arrays_of(&tokens, &typed);
    if let Ok(tokenizer) = Tokenizer::from_gguf_bpe(arrays, texts_of_merges.iter().map(String::as_str), pre) {
        assert_eq!(tokenizer.decode(&tokenizer.encode(&text)).as_deref(), Ok(&text[..]));
    }
});

/// The single bytes' tokens, then any tokens of any types.
fn arrays_of<'a>(tokens: &'a [String], typed: &'a [(String, i8)]) -> impl Iterator<Item = (&'a str, i32)> {
    let bytes = tokens[..256].iter().map(|token| (&token[..], 1));
    bytes.chain(typed.iter().map(|(token, token_type)| (&token[..], i32::from(*token_type))))
}
