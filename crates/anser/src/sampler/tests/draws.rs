//! Draws: as often as the distribution says, and the same for the same seed.

use crate::sampler::race::waiting_time;
use crate::sampler::{Sampler, SamplerOptions, SamplerOrder};

fn noise(n: usize) -> Vec<f32> {
    (0..n as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1 << 21) as f32).collect()
}

#[test]
fn draws_are_as_frequent_as_the_distribution_says() {
    let logits = noise(40);
    let base = SamplerOptions { seed: Some(7), ..SamplerOptions::plain() };
    let cases = [
        base.clone(),
        SamplerOptions { temperature: 1.7, ..base.clone() },
        SamplerOptions { temperature: 0.5, top_p: 0.8, ..base.clone() },
        SamplerOptions { temperature: 0.7, top_k: 12, order: SamplerOrder::Common, ..base.clone() },
        SamplerOptions { typical_p: 0.7, min_p: 0.02, ..base },
    ];
    const N_DRAWS: usize = 40_000;
    for options in cases {
        let mut sampler = Sampler::new(options.clone(), vec![]);
        let distribution = sampler.distribution(&logits).unwrap();
        let mut counts = vec![0usize; logits.len()];
        for _ in 0..N_DRAWS {
            counts[sampler.sample(&logits).unwrap() as usize] += 1;
        }
        let expected = |p: f32| f64::from(p) * N_DRAWS as f64;
        let chi_square: f64 = distribution
            .iter()
            .map(|&(token, p)| (counts[token as usize] as f64 - expected(p)).powi(2) / expected(p))
            .sum();
        // Mean k, variance 2k: six standard deviations above the mean are out of reach of chance.
        let k = distribution.len() as f64 - 1.0;
        assert!(chi_square < k + 6.0 * (2.0 * k).sqrt(), "{chi_square} at {k} degrees of freedom: {options:?}");
        assert_eq!(counts.iter().sum::<usize>(), distribution.iter().map(|&(t, _)| counts[t as usize]).sum::<usize>());
    }
}

#[test]
fn unlikely_tokens_are_drawn_too() {
    // One token with half of the weight, 65535 that share the rest: pruning must not lose them.
    let mut logits = vec![0.0; 65_536];
    logits[0] = 65_535f32.ln();
    let mut sampler = Sampler::new(SamplerOptions { seed: Some(3), ..SamplerOptions::plain() }, vec![]);
    let tokens: Vec<u32> = (0..400).map(|_| sampler.sample(&logits).unwrap()).collect();
    let others: Vec<u32> = tokens.iter().copied().filter(|&t| t != 0).collect();
    assert!((140..=260).contains(&others.len()), "{} of 400, expected 200 ± 10 per standard deviation", others.len());
    let upper_half = others.iter().filter(|&&t| t >= 32_768).count();
    assert!((40..=160).contains(&upper_half), "{upper_half} of about 100");
}

fn draw(sampler: &mut Sampler, n: usize) -> Vec<u32> {
    let logits = noise(1000);
    let mut draw = || {
        let token = sampler.sample(&logits).unwrap();
        sampler.accept(token);
        token
    };
    (0..n).map(|_| draw()).collect()
}

#[test]
fn the_seed_decides() {
    let seeded = |seed| Sampler::new(SamplerOptions { seed, top_p: 0.9, ..SamplerOptions::default() }, vec![]);
    let mut sampler = seeded(Some(42));
    let first = draw(&mut sampler, 50);
    assert_eq!(first, draw(&mut seeded(Some(42)), 50));
    assert_ne!(first, draw(&mut seeded(Some(43)), 50));
    assert_ne!(first, draw(&mut sampler, 50), "goes on");
    sampler.reset();
    assert_eq!(first, draw(&mut sampler, 50), "reset starts again");

    let (mut one, mut other) = (seeded(None), seeded(None));
    assert_ne!(one.seed(), other.seed());
    let drawn = draw(&mut one, 50);
    assert_ne!(drawn, draw(&mut other, 50));
    assert_eq!(drawn, draw(&mut seeded(Some(one.seed())), 50), "the fresh seed repeats the draws");
}

/// The generator's definition in terms of its published algorithm: PCG-XSL-RR-128/64, whose 32 seed bytes (state, then
/// stream) are eight outputs of a PCG-XSH-RR-64/32 that starts from the seed.
fn published_pcg64(seed: u64, n: usize) -> Vec<u64> {
    let mut state = seed;
    let mut words = [0u32; 8];
    for word in &mut words {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(11_634_580_027_462_260_723);
        *word = ((((state >> 18) ^ state) >> 27) as u32).rotate_right((state >> 59) as u32);
    }
    let u128_of = |words: &[u32]| words.iter().rev().fold(0u128, |all, &w| all << 32 | u128::from(w));
    let increment = u128_of(&words[4..]) | 1;
    const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;
    let step = |s: u128| s.wrapping_mul(MULTIPLIER).wrapping_add(increment);
    let mut state = step(u128_of(&words[..4]).wrapping_add(increment));
    let mut next = || {
        state = step(state);
        (((state >> 64) ^ state) as u64).rotate_right((state >> 122) as u32)
    };
    (0..n).map(|_| next()).collect()
}

/// When `token` of probability `p` arrives in the draw of `random`, by the definitions in f64.
fn arrival(random: u64, token: u32, p: f64) -> f64 {
    let mix = |x: u32| {
        let x = (x ^ x >> 16).wrapping_mul(0x7feb_352d);
        let x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
        x ^ x >> 16
    };
    let of_token = mix(mix(token.wrapping_add(0x9e37_79b9)) ^ (random >> 32) as u32);
    -(-(f64::from(of_token) + 0.5) / 4_294_967_296.0).ln_1p() / p
}

#[test]
fn tokens_follow_from_the_published_generator() {
    let options = SamplerOptions { temperature: 1.3, ..SamplerOptions::plain() };
    for options in [options.clone(), SamplerOptions { top_p: 0.8, ..options }] {
        for seed in [0, 1, 42, u64::MAX] {
            let logits = noise(1 << 10);
            let mut sampler = Sampler::new(SamplerOptions { seed: Some(seed), ..options.clone() }, vec![]);
            let distribution = sampler.distribution(&logits).unwrap();
            for random in published_pcg64(seed, 50) {
                let arrival = |&(token, p): &(u32, f32)| arrival(random, token, p.into());
                let first = distribution.iter().min_by(|a, b| arrival(a).total_cmp(&arrival(b))).unwrap();
                assert_eq!(sampler.sample(&logits).unwrap(), first.0, "seed {seed}");
            }
        }
    }
}

#[test]
fn waiting_times_are_within_their_bound() {
    for i in 0..1_000_000u32 {
        let exact = arrival(u64::from(i) << 32, i % 1000, 1.0);
        let found = f64::from(waiting_time(i, i % 1000));
        assert!((found - exact).abs() <= 1e-6 * exact, "{found} of {exact}");
    }
}

/// Logits that rounding has moved give other tokens only where two tokens arrive nearly at the same time.
#[test]
fn small_errors_of_logits_hardly_change_what_is_drawn() {
    const N_DRAWS: usize = 5000;
    // Many tokens of nearly the same probability, whose ranks the errors exchange.
    let logits = noise(3000);
    let moved: Vec<f32> = logits.iter().zip(noise(6000).iter().skip(3000)).map(|(x, e)| x + 1e-3 * e).collect();
    for options in [SamplerOptions::plain(), SamplerOptions { top_p: 0.8, ..SamplerOptions::plain() }] {
        let sampler = || Sampler::new(SamplerOptions { seed: Some(5), ..options.clone() }, vec![]);
        let (mut one, mut other) = (sampler(), sampler());
        let differ = |_: &usize| one.sample(&logits).unwrap() != other.sample(&moved).unwrap();
        let n_differ = (0..N_DRAWS).filter(differ).count();
        // The distributions are 4·10⁻³ apart at most, and a race loses at most twice of that.
        assert!(n_differ <= N_DRAWS / 100, "{n_differ} of {N_DRAWS}");
    }
}
