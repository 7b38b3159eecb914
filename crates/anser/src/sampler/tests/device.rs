//! Tokens drawn on a GPU against those of the host, with the same random numbers.
//!
//! Runs on the first adapter, Mesa's software one where there is no other; without any it fails.

use super::{logits_of, off};
use crate::sampler::race::waiting_time;
use crate::sampler::{Sampler, SamplerOptions, SamplerOrder};
use anser_gpu::{Device, DeviceChoice, draw_rows};

/// How much later than the host's first candidate, as a part of its time, the one of the device may arrive: weights are exponentials
/// of f32 numbers, good to 3·10⁻⁷ each, of logits that a penalty's product and difference round to 2·10⁻⁶; the tail's exponents of up to
/// 40 carry an error of 40·2⁻²⁴.
const BOUND: f64 = 2e-5;

/// A row like a language model's: a Gaussian bulk and a few likely tokens, and many equal ones.
fn row(n_vocab: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let mut logit = |token: usize| match token % 97 {
        0 => 3.0 + 4.0 * noise(),
        1..30 => -5.0,
        _ => -6.0 + (0..12).map(|_| noise()).sum::<f32>(),
    };
    (0..n_vocab).map(&mut logit).collect()
}

/// Draws with 61 random numbers and compares each with the race of the host's distribution.
fn check(options: &SamplerOptions, history: &[u32], logits: &[f32]) {
    const N: usize = 61;
    let device = Device::open(&DeviceChoice::Number(0)).expect("a GPU or Mesa's software adapter");
    let mut sampler = Sampler::new(options.clone(), vec![2, 5]);
    history.iter().for_each(|&token| sampler.accept(token));
    let on_device = sampler.on_device().expect("the device can draw so");
    let seeds = (0..N as u32).map(|i| i.wrapping_mul(0x9e37_79b9));
    let rows: Vec<_> = seeds.clone().map(|seed| (&on_device, seed)).collect();
    let found = draw_rows(&device, &logits.repeat(N), &rows).unwrap();
    let distribution = sampler.distribution(logits).unwrap();
    for (seed, token) in seeds.zip(found) {
        let token = token.unwrap_or_else(|| panic!("{options:?}: no token for {seed}"));
        let arrival = |&(token, p): &(u32, f32)| f64::from(waiting_time(seed, token)) / f64::from(p);
        let of_token = distribution.iter().find(|&&(t, _)| t == token);
        let of_token = arrival(of_token.unwrap_or_else(|| panic!("{options:?}: {token} is no candidate")));
        let first = distribution.iter().map(arrival).fold(f64::INFINITY, f64::min);
        assert!(of_token <= first * (1.0 + BOUND), "{options:?}: {token} arrives at {of_token}, the first at {first}");
    }
}

#[test]
fn a_gpu_draws_what_the_host_draws() {
    let orders = [SamplerOrder::Rwkv, SamplerOrder::Common];
    let base = |order| SamplerOptions { order, ..off() };
    let penalties = |options: SamplerOptions| SamplerOptions {
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        penalty_decay: 0.75,
        ..options
    };
    let mut cases = vec![SamplerOptions::default(), SamplerOptions::thinking()];
    for order in orders {
        cases.extend([
            base(order),
            SamplerOptions { temperature: 1.7, ..base(order) },
            SamplerOptions { temperature: 0.6, top_p: 0.83, ..base(order) },
            SamplerOptions { top_k: 7, ..base(order) },
            SamplerOptions { temperature: 1.3, top_k: 40, top_p: 0.71, ..base(order) },
            SamplerOptions { temperature: 0.8, min_p: 0.031, ..base(order) },
            penalties(SamplerOptions { top_p: 0.62, logit_bias: vec![(0, -3.0), (97, 4.5)], ..base(order) }),
            penalties(SamplerOptions { temperature: 1.2, top_k: 20, top_p: 0.9, min_p: 0.011, ..base(order) }),
        ]);
    }
    // Token 97 often, 194 once long ago; 2 and 5 are seen but never counted.
    let history = [194, 97, 5, 97, 97, 2];
    for n_vocab in [65_536, 300] {
        let logits = row(n_vocab, n_vocab as u64);
        cases.iter().for_each(|options| check(options, &history, &logits));
    }
}

#[test]
fn a_gpu_tells_equal_logits_apart_by_their_ids() {
    let flat = vec![1.5; 65_536];
    check(&off(), &[], &flat);
    check(&SamplerOptions { temperature: 3.0, ..off() }, &[], &flat);
    check(&SamplerOptions { top_k: 1000, ..off() }, &[], &flat);
    let mut two_levels = vec![0.0; 1000];
    two_levels[500..].fill(1.0);
    check(&SamplerOptions { top_p: 0.5, ..off() }, &[], &two_levels);
    check(&SamplerOptions { temperature: 0.5, ..off() }, &[], &[-0.0, 0.0, -0.0, -1.0]);
    check(&off(), &[], &logits_of(&[0.5, 0.25, 0.15, 0.1]));
    check(&off(), &[], &[-4.0]);
}

#[test]
fn a_gpu_takes_the_lowest_of_the_most_likely() {
    let device = Device::open(&DeviceChoice::Number(0)).expect("a GPU or Mesa's software adapter");
    let greedy = Sampler::new(SamplerOptions::greedy(), vec![]).on_device().unwrap();
    let token = |logits: &[f32]| draw_rows(&device, logits, &[(&greedy, 1)]).unwrap()[0];
    for n_vocab in [1, 300, 1024, 65_536] {
        let mut logits = row(n_vocab, 7);
        for best in [n_vocab - 1, n_vocab / 2, n_vocab / 3] {
            logits[best] = 20.0;
            assert_eq!(token(&logits), Some(best as u32), "{n_vocab} tokens");
        }
    }
    assert_eq!(token(&[-1.0, -0.0, 0.0]), Some(1));
    // Rows side by side do not see each other.
    let rows: Vec<f32> =
        (0..5).flat_map(|row| (0..2000).map(move |t| if t == 400 * row { 1.0 } else { 0.0 })).collect();
    let tokens = draw_rows(&device, &rows, &[(&greedy, 1); 5]).unwrap();
    assert_eq!(tokens, [0, 400, 800, 1200, 1600].map(Some));
    // Nor does it matter how the others draw.
    let plain = Sampler::new(off(), vec![]).on_device().unwrap();
    let rows = [rows, vec![0.0; 4 * 2000]].concat();
    let drawn = [&greedy, &plain, &greedy, &plain, &greedy, &greedy, &plain, &plain, &greedy].map(|o| (o, 7));
    let tokens = draw_rows(&device, &rows, &drawn).unwrap();
    assert_eq!([0, 2, 4].map(|row| tokens[row]), [0, 800, 1600].map(Some));
    let first = (0..2000).min_by(|&a, &b| waiting_time(7, a).total_cmp(&waiting_time(7, b))).unwrap();
    assert_eq!(tokens[5..], [0, first, first, 0].map(Some));
}

#[test]
fn a_gpu_draws_nothing_from_logits_that_are_no_numbers() {
    let device = Device::open(&DeviceChoice::Number(0)).expect("a GPU or Mesa's software adapter");
    for options in [SamplerOptions::greedy(), SamplerOptions::default()] {
        let on_device = Sampler::new(options, vec![]).on_device().unwrap();
        for bad in [f32::NAN, f32::INFINITY] {
            let mut logits = row(2000, 1);
            logits[1500] = bad;
            assert_eq!(draw_rows(&device, &logits, &[(&on_device, 1)]).unwrap(), [None]);
        }
        assert_eq!(draw_rows(&device, &[f32::NEG_INFINITY; 40], &[(&on_device, 1)]).unwrap(), [None]);
    }
}

#[test]
fn what_a_gpu_cannot_draw_exactly_is_left_to_the_host() {
    let on_device = |options: SamplerOptions| Sampler::new(options, vec![]).on_device();
    assert_eq!(on_device(SamplerOptions { typical_p: 0.9, ..off() }), None);
    assert_eq!(on_device(SamplerOptions { repetition_penalty: 1.1, ..off() }), None);
    assert_eq!(on_device(SamplerOptions { logit_bias: vec![(1, 1.0), (1, 2.0)], ..off() }), None);
}
