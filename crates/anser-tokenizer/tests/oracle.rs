//! Encoding agrees with a naive longest match that knows nothing of windows, cuts, hashes or tries.

use std::collections::HashMap;
use std::ops::ControlFlow;

use anser_tokenizer::Tokenizer;
use proptest::collection::vec;
use proptest::prelude::*;

/// The tokens by their bytes; matching tries every length, the longest first.
struct Oracle {
    ids: HashMap<Vec<u8>, u32>,
    max_token_len: usize,
}

impl Oracle {
    /// An oracle that matches the first of equal tokens and never an empty one.
    fn new(tokens: impl IntoIterator<Item = (u32, Vec<u8>)>) -> Self {
        let mut ids = HashMap::new();
        for (id, token) in tokens {
            ids.entry(token).or_insert(id);
        }
        ids.remove([].as_slice());
        let max_token_len = ids.keys().map(Vec::len).max().unwrap_or(0);
        Self { ids, max_token_len }
    }

    fn world() -> Self {
        let world = Tokenizer::world();
        Self::new((0..world.vocab_size() as u32).map(|id| (id, world.token_bytes(id).unwrap().to_vec())))
    }

    fn encode(&self, mut text: &[u8]) -> Vec<u32> {
        let mut ids = Vec::new();
        while !text.is_empty() {
            let lengths = (1..=text.len().min(self.max_token_len)).rev();
            let (len, id) = lengths.filter_map(|len| Some((len, *self.ids.get(&text[..len])?))).next().unwrap();
            ids.push(id);
            text = &text[len..];
        }
        ids
    }
}

fn assert_agree(tokenizer: &Tokenizer, oracle: &Oracle, text: &[u8]) {
    let ids = tokenizer.encode(text);
    assert_eq!(ids, oracle.encode(text));
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
}

/// Checks `strategy`'s texts against the World oracle, which is built once.
fn check_world(strategy: impl Strategy<Value = Vec<u8>>) {
    let (world, oracle) = (Tokenizer::world(), Oracle::world());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(256));
    runner
        .run(&strategy, |text| {
            assert_agree(&world, &oracle, &text);
            Ok(())
        })
        .unwrap();
}

#[test]
fn world_agrees_on_random_bytes() {
    check_world(vec(any::<u8>(), 0..2000));
}

#[test]
fn world_agrees_on_random_characters() {
    check_world(any::<String>().prop_map(String::into_bytes));
}

#[test]
fn world_agrees_on_concatenated_tokens() {
    let token = (0..65536_u32).prop_map(|id| Tokenizer::world().token_bytes(id).unwrap().to_vec());
    check_world(vec(token, 0..600).prop_map(|tokens| tokens.concat()));
}

/// Tokens cut short leave the matcher deep in the tree without a token; few bytes make long pieces without a cut.
#[test]
fn world_agrees_on_truncated_tokens_and_runs() {
    let stump = (0..65536_u32, any::<prop::sample::Index>()).prop_map(|(id, end)| {
        let world = Tokenizer::world();
        let token = world.token_bytes(id).unwrap();
        token[..end.index(token.len() + 1)].to_vec()
    });
    let run = (prop::sample::select(b" -=*\n\t\0\xff/.0a".to_vec()), 1..1200_usize)
        .prop_map(|(byte, n_bytes)| [byte].repeat(n_bytes));
    check_world(vec(prop_oneof![4 => stump, 1 => run], 0..60).prop_map(|parts| parts.concat()));
}

/// Every length around the window's, so that each place of a text once lies at its edge.
#[test]
fn world_agrees_at_window_edges() {
    let (world, oracle) = (Tokenizer::world(), Oracle::world());
    let text = include_str!("oracle.rs").as_bytes();
    for n_bytes in 480..=560 {
        assert_agree(&world, &oracle, &text[..n_bytes]);
        assert_agree(&world, &oracle, &text[n_bytes..]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Small vocabularies over few letters overlap in every way; ids, repetitions and empty tokens come in any order.
    #[test]
    fn small_vocabularies_agree(
        words in vec(vec(prop::sample::select(b"ab\0\xff".to_vec()), 0..20), 0..60),
        single_bytes_first in any::<bool>(),
        texts in vec(vec(prop::sample::select(b"aaabb\0\xffc".to_vec()), 0..1500), 1..4),
    ) {
        let single_bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        let tokens: Vec<_> = if single_bytes_first {
            single_bytes.chain(words).collect()
        } else {
            words.into_iter().chain(single_bytes).collect()
        };
        let tokenizer = Tokenizer::from_tokens(tokens.iter().map(Some)).unwrap();
        let oracle = Oracle::new((0..).zip(tokens));
        for text in &texts {
            assert_agree(&tokenizer, &oracle, text);
        }
    }
}

#[test]
fn texts_of_megabytes_are_encoded_in_steps_with_the_same_ids() {
    let (world, oracle) = (Tokenizer::world(), Oracle::world());
    // Words have cuts between them; one letter repeated has none for its whole length, so a step ends within a piece.
    let words = "All the world's a stage, and all the men and women merely players. ";
    let text = words.repeat(100) + &"a".repeat((4 << 20) + 7) + words;
    let mut told = vec![];
    let ids = world.encode_for(text.as_bytes(), |n_bytes| {
        told.push(n_bytes);
        ControlFlow::Continue(())
    });
    assert_eq!(ids.unwrap(), oracle.encode(text.as_bytes()));
    assert!(told.len() > 1 && told.is_sorted() && told.last() == Some(&text.len()), "{told:?}");

    let mut n_calls = 0;
    let broken_off = world.encode_for(text.as_bytes(), |_| {
        n_calls += 1;
        ControlFlow::Break(())
    });
    assert_eq!((broken_off, n_calls), (None, 1));
}
