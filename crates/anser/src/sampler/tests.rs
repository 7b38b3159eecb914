//! The sampler against the definition of its steps: f64, whole sorted lists, one step after the other.

mod device;
mod draws;
mod reference;

use super::*;
use proptest::prelude::*;
use reference::reference_distribution;

fn off() -> SamplerOptions {
    SamplerOptions { seed: Some(1), ..SamplerOptions::plain() }
}

/// The distribution of `options` for `logits` after `history` was accepted; `uncounted` adds nothing to its count.
fn distribution(options: &SamplerOptions, uncounted: &[u32], history: &[u32], logits: &[f32]) -> Vec<(u32, f32)> {
    let mut sampler = Sampler::new(options.clone(), uncounted.to_vec());
    history.iter().for_each(|&token| sampler.accept(token));
    sampler.distribution(logits).unwrap()
}

#[track_caller]
fn assert_close(found: &[(u32, f32)], expected: &[(u32, f64)]) {
    let tokens = |d: &[(u32, f32)]| d.iter().map(|&(t, _)| t).collect::<Vec<_>>();
    assert_eq!(tokens(found), expected.iter().map(|&(t, _)| t).collect::<Vec<_>>(), "{found:?}\n{expected:?}");
    for (&(token, p), &(_, expected)) in found.iter().zip(expected) {
        // f32 exponents of up to 80 carry an error of 80·2⁻²⁴, times the temperature's reciprocal.
        assert!((f64::from(p) - expected).abs() <= 2e-5 * expected + 1e-9, "token {token}: {p}, expected {expected}");
    }
}

/// Logits whose softmax is exactly the given probabilities.
fn logits_of(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln()).collect()
}

/// Name, options, and the distribution expected.
type Case = (&'static str, SamplerOptions, &'static [(u32, f64)]);

#[test]
fn each_step_alone_gives_the_distribution_worked_out_by_hand() {
    let p = [0.5, 0.25, 0.15, 0.1];
    let rwkv = |change: fn(&mut SamplerOptions)| {
        let mut options = off();
        change(&mut options);
        options
    };
    let cases: [Case; 12] = [
        ("all off", off(), &[(0, 0.5), (1, 0.25), (2, 0.15), (3, 0.1)]),
        ("top_k 2", rwkv(|o| o.top_k = 2), &[(0, 2.0 / 3.0), (1, 1.0 / 3.0)]),
        ("top_p 0.6", rwkv(|o| o.top_p = 0.6), &[(0, 2.0 / 3.0), (1, 1.0 / 3.0)]),
        ("top_p 0.4", rwkv(|o| o.top_p = 0.4), &[(0, 1.0)]),
        ("top_p 0.8", rwkv(|o| o.top_p = 0.8), &[(0, 5.0 / 9.0), (1, 2.5 / 9.0), (2, 1.5 / 9.0)]),
        ("min_p 0.4", rwkv(|o| o.min_p = 0.4), &[(0, 2.0 / 3.0), (1, 1.0 / 3.0)]),
        // Information 0.69, 1.39, 1.90, 2.30 nat; entropy 1.21: the nearest is token 1, then 0, then 2.
        ("typical_p 0.2", rwkv(|o| o.typical_p = 0.2), &[(1, 1.0)]),
        ("typical_p 0.3", rwkv(|o| o.typical_p = 0.3), &[(0, 2.0 / 3.0), (1, 1.0 / 3.0)]),
        (
            "temperature 0.5",
            rwkv(|o| o.temperature = 0.5),
            &[(0, 50.0 / 69.0), (1, 12.5 / 69.0), (2, 4.5 / 69.0), (3, 2.0 / 69.0)],
        ),
        ("temperature 0.5 after top_p 0.6", rwkv(|o| (o.temperature, o.top_p) = (0.5, 0.6)), &[(0, 0.8), (1, 0.2)]),
        // Squared first, token 0 alone has 0.72.
        (
            "temperature 0.5 before top_p 0.6",
            rwkv(|o| (o.temperature, o.top_p, o.order) = (0.5, 0.6, SamplerOrder::Common)),
            &[(0, 1.0)],
        ),
        // Of the three that top-k leaves, tokens 0 and 1 have 0.833: enough for 0.8 once renormalised.
        (
            "top_p 0.8 after top_k 3, renormalised",
            rwkv(|o| (o.top_k, o.top_p, o.order) = (3, 0.8, SamplerOrder::Common)),
            &[(0, 2.0 / 3.0), (1, 1.0 / 3.0)],
        ),
    ];
    for (name, options, expected) in cases {
        println!("{name}");
        assert_close(&distribution(&options, &[], &[], &logits_of(&p)), expected);
    }
}

#[test]
fn typical_p_prefers_unlikely_tokens_to_a_too_likely_one() {
    // Entropy 3.39 nat: the 68 tokens have 4.91 nat, the 30 have 5.70, token 0 has 0.92 and is the farthest from it.
    let p: Vec<f32> = [0.4].into_iter().chain([0.5 / 68.0; 68]).chain([0.1 / 30.0; 30]).collect();
    let options = SamplerOptions { typical_p: 0.555, ..off() };
    let sum = 0.5 + 17.0 * 0.1 / 30.0; // 0.055 of the 30: 17 tokens
    let expected = (1..86).map(|token| (token, if token < 69 { 0.5 / 68.0 / sum } else { 0.1 / 30.0 / sum }));
    assert_close(&distribution(&options, &[], &[], &logits_of(&p)), &expected.collect::<Vec<_>>());
}

#[test]
fn zero_and_minus_zero_are_equally_likely() {
    let options = SamplerOptions { top_k: 2, ..off() };
    assert_close(&distribution(&options, &[], &[], &[-0.0, 0.0, 0.0]), &[(0, 0.5), (1, 0.5)]);
}

#[test]
fn penalties_change_logits_as_defined() {
    // Penalised logits, read off against token 3, which is never seen and has logit 0.
    let logits = [2.0, -1.0, 1.0, 0.0];
    let log_ratios = |options: &SamplerOptions, uncounted: &[u32], history: &[u32]| {
        let mut found = distribution(options, uncounted, history, &logits);
        found.sort_by_key(|&(token, _)| token);
        [0, 1, 2].map(|i| (found[i].1 / found[3].1).ln())
    };
    let close = |found: [f32; 3], expected: [f32; 3]| {
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-4), "{found:?}, expected {expected:?}");
    };
    let rwkv = SamplerOptions { presence_penalty: 0.5, frequency_penalty: 0.25, penalty_decay: 0.5, ..off() };
    // Counts after 0 0 1: token 0 has (1·½ + 1)·½ = 0.75, token 1 has 1.
    close(log_ratios(&rwkv, &[], &[0, 0, 1]), [2.0 - 0.5 - 0.1875, -1.0 - 0.5 - 0.25, 1.0]);
    // Token 0 is uncounted: present all the same.
    close(log_ratios(&rwkv, &[7, 0], &[0, 0, 1]), [1.5, -1.75, 1.0]);
    let repetition = SamplerOptions { repetition_penalty: 2.0, ..off() };
    close(log_ratios(&repetition, &[], &[0, 0, 1]), [1.0, -2.0, 1.0]);
    let bias = SamplerOptions { logit_bias: vec![(2, -3.0), (1, 4.0)], ..off() };
    close(log_ratios(&bias, &[], &[]), [2.0, 3.0, -2.0]);
    let none = SamplerOptions { presence_penalty: 0.0, frequency_penalty: 0.0, ..rwkv };
    close(log_ratios(&none, &[], &[0, 1, 2]), logits[..3].try_into().unwrap());
}

#[test]
fn a_forbidden_token_is_never_a_candidate() {
    let options = SamplerOptions { logit_bias: vec![(0, f32::NEG_INFINITY)], ..off() };
    assert_close(&distribution(&options, &[], &[0], &[9.0, 0.0, 0.0]), &[(1, 0.5), (2, 0.5)]);
    assert_close(&distribution(&off(), &[], &[], &[f32::NEG_INFINITY, 0.0, 0.0]), &[(1, 0.5), (2, 0.5)]);
}

#[test]
fn greedy_takes_the_lowest_of_the_most_likely() {
    let logits = [1.0, 3.0, 3.0, -2.0];
    let greedy = [
        SamplerOptions::greedy(),
        SamplerOptions { top_p: 0.0, ..off() },
        SamplerOptions { top_k: 1, ..off() },
        SamplerOptions { temperature: 0.0, order: SamplerOrder::Common, ..off() },
        SamplerOptions { temperature: 1e-40, ..off() },
        SamplerOptions { min_p: 1.0, top_k: 1, ..off() },
    ];
    for options in &greedy[..4] {
        assert_eq!(Sampler::new(options.clone(), vec![]).sample(&logits), Ok(1), "{options:?}");
    }
    // However small, a temperature above 0 cannot tell equals apart.
    assert_close(&distribution(&greedy[4], &[], &[], &logits), &[(1, 0.5), (2, 0.5)]);
    assert_close(&distribution(&greedy[5], &[], &[], &logits), &[(1, 1.0)]);
}

#[test]
fn one_token_or_all_equal_ones() {
    for options in [SamplerOptions::default(), SamplerOptions::thinking(), SamplerOptions::greedy(), off()] {
        assert_eq!(Sampler::new(options.clone(), vec![]).sample(&[-4.0]), Ok(0), "{options:?}");
    }
    let half = SamplerOptions { top_p: 0.5, ..off() };
    assert_close(&distribution(&half, &[], &[], &[1.5; 100]), &(0..50).map(|t| (t, 0.02)).collect::<Vec<_>>());
    let all = SamplerOptions { typical_p: 0.999, min_p: 1.0, top_k: 100, ..off() };
    assert_close(&distribution(&all, &[], &[], &[1.5; 100]), &(0..100).map(|t| (t, 0.01)).collect::<Vec<_>>());
}

#[test]
fn logits_that_no_token_can_be_drawn_from_are_errors() {
    for options in [SamplerOptions::greedy(), SamplerOptions::default()] {
        let sample = |logits: &[f32]| Sampler::new(options.clone(), vec![]).sample(logits);
        assert_eq!(sample(&[]), Err(SamplerError::NoCandidate { n_vocab: 0 }));
        assert_eq!(sample(&[f32::NEG_INFINITY; 40]), Err(SamplerError::NoCandidate { n_vocab: 40 }));
        for at in [0, 17, 36] {
            let mut logits = [0.0; 37];
            logits[at] = f32::NAN;
            let error = sample(&logits).unwrap_err();
            assert!(
                matches!(error, SamplerError::NotANumber { token, found } if token == at && found.is_nan()),
                "{error}"
            );
            logits[at] = f32::INFINITY;
            assert_eq!(sample(&logits), Err(SamplerError::NotANumber { token: at, found: f32::INFINITY }));
        }
    }
    let text = SamplerError::NotANumber { token: 17, found: f32::NAN }.to_string();
    assert!(text.starts_with("the logit of token 17 is NaN"), "{text}");
}

#[test]
fn options_out_of_range_are_named() {
    for options in [SamplerOptions::default(), SamplerOptions::greedy(), SamplerOptions::thinking(), off()] {
        assert_eq!(options.validate(1), Ok(()));
    }
    type Change = fn(&mut SamplerOptions, f32);
    let fields: [(&str, Change, f32, f32); 8] = [
        ("temperature", |o, x| o.temperature = x, -0.1, f32::INFINITY),
        ("top_p", |o, x| o.top_p = x, -0.1, 1.1),
        ("min_p", |o, x| o.min_p = x, -0.1, 1.1),
        ("typical_p", |o, x| o.typical_p = x, -0.1, 1.1),
        ("presence_penalty", |o, x| o.presence_penalty = x, -101.0, 101.0),
        ("frequency_penalty", |o, x| o.frequency_penalty = x, -101.0, 101.0),
        ("penalty_decay", |o, x| o.penalty_decay = x, -0.1, 1.1),
        ("repetition_penalty", |o, x| o.repetition_penalty = x, 0.0, 101.0),
    ];
    for (name, change, low, high) in fields {
        for bad in [low, high, f32::NAN, f32::NEG_INFINITY] {
            let mut options = off();
            change(&mut options, bad);
            let text = options.validate(10).unwrap_err().to_string();
            assert!(
                text.starts_with(&format!("{name}: expected ")) && text.ends_with(&format!("found {bad}")),
                "{text}"
            );
        }
    }
    let top_p = SamplerOptions { top_p: 2.0, ..off() }.validate(10).unwrap_err();
    assert_eq!(top_p.to_string(), "top_p: expected 0 to 1, found 2");
    let temperature = SamplerOptions { temperature: -1.0, ..off() }.validate(10).unwrap_err();
    assert_eq!(temperature.to_string(), "temperature: expected 0 to any finite number, found -1");
    let bias = |token, value| SamplerOptions { logit_bias: vec![(token, value)], ..off() }.validate(10);
    assert_eq!(bias(9, f32::NEG_INFINITY), Ok(()));
    assert_eq!(bias(10, 1.0), Err(SamplerError::BiasToken { token: 10, n_vocab: 10 }));
    assert_eq!(bias(9, 100.5), Err(SamplerError::BiasValue { token: 9, found: 100.5 }));
    assert!(bias(9, f32::NAN).is_err() && bias(9, f32::INFINITY).is_err());
}

#[test]
fn ids_beyond_the_vocabulary_are_ignored() {
    let mut sampler = Sampler::new(SamplerOptions { logit_bias: vec![(7, 1.0)], ..SamplerOptions::default() }, vec![]);
    sampler.accept(u32::MAX);
    assert_eq!(sampler.sample(&[0.0, 9.0]), Ok(1));
}

#[test]
fn uncounted_tokens_are_white_space_and_runs_of_ascending_digits() {
    let mut tokens = uncounted_tokens(&Tokenizer::world());
    tokens.sort_unstable();
    // Space is byte 32, so token 33, tab 10, digits 49 to 58; 264 is " \t"; "01", "12", … "89" are 621 to 709.
    let single = [10, 33].into_iter().chain(49..=58);
    let expected: Vec<u32> = single.chain([264]).chain((621..=709).step_by(11)).collect();
    assert_eq!(tokens, expected);
}

#[test]
fn the_exponential_is_within_its_bound() {
    let mut worst = 0.0f64;
    for i in 0..=1_000_000 {
        let x = -87.3 * (i as f32 / 1e6);
        let exact = f64::from(x).exp();
        worst = worst.max((f64::from(softmax::exp_of_at_most_0(x)) - exact).abs() / exact);
    }
    assert!(worst < 2e-7, "{worst:e}");
    assert_eq!(softmax::exp_of_at_most_0(0.0), 1.0);
    assert_eq!(softmax::exp_of_at_most_0(-88.0), 0.0);
    assert_eq!(softmax::exp_of_at_most_0(f32::NEG_INFINITY), 0.0);
}

/// Multiples of 1/8, so that equal logits are frequent, and some −∞.
fn logits() -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![20 => (-240i32..=80).prop_map(|x| x as f32 / 8.0), 1 => Just(f32::NEG_INFINITY)];
    prop::collection::vec(logit, 1..200).prop_filter("all forbidden", |l| l.iter().any(|l| l.is_finite()))
}

fn options() -> impl Strategy<Value = SamplerOptions> {
    let order = prop_oneof![Just(SamplerOrder::Rwkv), Just(SamplerOrder::Common)];
    let or_off = |off: f32| prop_oneof![Just(off), 0.0f32..=1.0];
    let penalty = || prop_oneof![Just(0.0f32), (-8i32..=16).prop_map(|x| x as f32 / 8.0)];
    (
        order,
        0.3f32..2.5,
        prop_oneof![Just(0usize), 1usize..50],
        or_off(1.0),
        or_off(0.0),
        or_off(1.0),
        penalty(),
        penalty(),
    )
        .prop_map(|(order, temperature, top_k, top_p, min_p, typical_p, presence_penalty, frequency_penalty)| {
            SamplerOptions {
                order,
                temperature,
                top_k,
                top_p,
                min_p,
                typical_p,
                presence_penalty,
                frequency_penalty,
                ..off()
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn equals_the_sorted_f64_reference(
        logits in logits(),
        options in options(),
        repetition_penalty in prop_oneof![Just(1.0f32), 0.5f32..2.0],
        bias in prop::collection::vec((0u32..200, (-16i32..=16).prop_map(|x| x as f32 / 4.0)), 0..4),
        history in prop::collection::vec(0u32..200, 0..20),
    ) {
        let options = SamplerOptions { repetition_penalty, logit_bias: bias, penalty_decay: 0.75, ..options };
        let uncounted = [3, 4, 5];
        let Some(expected) = reference_distribution(&options, &uncounted, &history, &logits) else {
            return Err(TestCaseError::reject("the border of a filter is within the rounding of f32"));
        };
        assert_close(&distribution(&options, &uncounted, &history, &logits), &expected);
    }

    #[test]
    fn draws_only_candidates(logits in logits(), options in options(), seed: u64) {
        let mut sampler = Sampler::new(SamplerOptions { seed: Some(seed), ..options }, vec![]);
        let candidates = sampler.distribution(&logits).unwrap();
        for _ in 0..5 {
            let token = sampler.sample(&logits).unwrap();
            prop_assert!(candidates.iter().any(|&(t, p)| t == token && p > 0.0), "{token} of {candidates:?}");
        }
    }
}
