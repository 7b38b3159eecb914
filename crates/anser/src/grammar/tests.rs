//! Masks against what a list of all texts of a grammar says.

use super::{Allowed, Compiler, Grammar};
use anser_tokenizer::Tokenizer;
use std::collections::BTreeSet;
use std::sync::LazyLock;

static COMPILER: LazyLock<Compiler> = LazyLock::new(|| Compiler::new(&Tokenizer::world()).unwrap());

/// The tokens allowed by a mask.
fn tokens_of(mask: &[u32]) -> BTreeSet<u32> {
    let bits = |(word, bits): (usize, &u32)| {
        let bits = *bits;
        (0..32).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| 32 * word as u32 + bit)
    };
    mask.iter().enumerate().flat_map(bits).collect()
}

/// The tokens of the World vocabulary with which a text that begins with `text` becomes one of `texts` or its beginning; with the
/// stop token 0 if it is one of them.
fn expected(texts: &[&str], text: &[u8]) -> BTreeSet<u32> {
    let world = Tokenizer::world();
    let rests: Vec<&[u8]> = texts.iter().filter_map(|whole| whole.as_bytes().strip_prefix(text)).collect();
    let leads_on = |id: &u32| {
        let token = world.token_bytes(*id).unwrap();
        !token.is_empty() && rests.iter().any(|rest| rest.starts_with(token))
    };
    let may_end = rests.iter().any(|rest| rest.is_empty());
    let is_over = rests.iter().all(|rest| rest.is_empty());
    let ends = (may_end && !is_over).then_some(0);
    (0..65536).filter(leads_on).chain(ends).collect()
}

/// The bytes that all of `texts` which begin with `text` have after it.
fn forced<'a>(texts: &[&'a str], text: &[u8]) -> &'a [u8] {
    let mut rests = texts.iter().filter_map(|whole| whole.as_bytes().strip_prefix(text));
    let first = rests.next().unwrap_or_default();
    let n_equal = |rest: &[u8]| first.iter().zip(rest).take_while(|(a, b)| a == b).count();
    &first[..rests.map(n_equal).min().unwrap_or(first.len())]
}

/// Walks through all texts of a grammar, token by token. Where the next bytes are certain, the mask may have one token for them: that
/// which the tokenizer gives; elsewhere it has exactly the tokens that lead on.
#[test]
fn masks_have_the_tokens_that_lead_to_a_text() {
    let lists: [&[&str]; 4] = [
        &["red", "green", "blue", "grün", "grey"],
        &["北京", "北海道", "北京市", "南京"],
        &["🎉", "🎊🎉", "🎉🎊", "é", "è", "x"],
        &["a", "ab", "abc", "hello world", "hello there"],
    ];
    let mut n_masks = 0;
    for texts in lists {
        let grammar = Grammar::regex(&texts.join("|")).unwrap();
        let mut open = vec![vec![]];
        let mut seen = BTreeSet::new();
        while let Some(tokens) = open.pop() {
            let mut constraint = COMPILER.constraint(&grammar, &[0]).unwrap();
            tokens.iter().for_each(|&token| constraint.accept(token).unwrap());
            let text = Tokenizer::world().decode(&tokens).unwrap();
            if !seen.insert(text.clone()) {
                continue;
            }
            let expected = expected(texts, &text);
            let found = match constraint.allowed().unwrap() {
                Allowed::Nothing => BTreeSet::new(),
                Allowed::Tokens(mask) => tokens_of(mask),
            };
            assert!(found.is_subset(&expected), "{texts:?} after {text:?}: {found:?} {expected:?}");
            assert_eq!(found.is_empty(), expected.is_empty(), "{texts:?} after {text:?}");
            if forced(texts, &text).is_empty() {
                assert_eq!(found, expected, "{texts:?} after {text:?}");
            }
            n_masks += 1;
            open.extend(expected.iter().filter(|&&token| token != 0).map(|&token| [&tokens[..], &[token]].concat()));
        }
    }
    assert!(n_masks > 40, "{n_masks}");
}

#[test]
fn a_token_that_leads_out_is_refused() {
    let grammar = Grammar::regex("ab").unwrap();
    let mut constraint = COMPILER.constraint(&grammar, &[0]).unwrap();
    let [token] = Tokenizer::world().encode(b"x")[..] else { panic!() };
    assert!(constraint.accept(token).is_err());
    assert!(!constraint.is_complete() && constraint.allowed().is_err());
}

/// Texts of one grammar have nothing in common but what they began with.
#[test]
fn constraints_are_independent() {
    let grammar = Grammar::regex("(a|b){2}").unwrap();
    let [a] = Tokenizer::world().encode(b"a")[..] else { panic!() };
    let mut first = COMPILER.constraint(&grammar, &[]).unwrap();
    first.accept(a).unwrap();
    first.accept(a).unwrap();
    assert!(first.is_complete());
    let mut second = COMPILER.constraint(&grammar, &[]).unwrap();
    assert!(!second.is_complete());
    assert!(matches!(second.allowed(), Ok(Allowed::Tokens(mask)) if tokens_of(mask).contains(&a)));
}

/// More grammars than are kept are compiled anew and work as before.
#[test]
fn grammars_that_are_no_longer_kept_are_compiled_again() {
    let grammars: Vec<Grammar> = (0..40).map(|i| Grammar::regex(&format!("x{i}")).unwrap()).collect();
    for grammar in grammars.iter().chain(&grammars) {
        let mut constraint = COMPILER.constraint(grammar, &[]).unwrap();
        assert!(matches!(constraint.allowed(), Ok(Allowed::Tokens(_))));
    }
}
