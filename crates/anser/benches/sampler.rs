//! Time to draw one token from a row of logits, by options.
//!
//! The rows are shaped like those of a language model: a Gaussian bulk and a few likely tokens on top.

use anser::{Sampler, SamplerOptions, SamplerOrder};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const N_VOCAB: usize = 65_536;

/// Reproducible numbers in −1..1 (splitmix64).
fn noise(seed: u64) -> f32 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// Bulk of standard deviation 2 around −8, and `n_likely` tokens between −2 and 6.
fn logits(n_likely: usize) -> Vec<f32> {
    let gaussian = |i: usize| (0..12).map(|k| noise((12 * i + k) as u64)).sum::<f32>();
    let likely = |i: usize| i * 7919 % N_VOCAB < n_likely;
    (0..N_VOCAB).map(|i| if likely(i) { 2.0 + 4.0 * noise(i as u64) } else { -8.0 + gaussian(i) }).collect()
}

fn sampling(criterion: &mut Criterion) {
    let plain = SamplerOptions { seed: Some(1), ..SamplerOptions::plain() };
    let common = SamplerOptions { order: SamplerOrder::Common, temperature: 0.8, ..plain.clone() };
    let cases = [
        ("greedy", SamplerOptions::greedy()),
        ("plain", plain.clone()),
        ("chat_default", SamplerOptions { seed: Some(1), ..SamplerOptions::default() }),
        ("thinking", SamplerOptions { seed: Some(1), ..SamplerOptions::thinking() }),
        ("min_p", SamplerOptions { min_p: 0.05, ..plain.clone() }),
        ("typical", SamplerOptions { typical_p: 0.9, ..plain.clone() }),
        ("common_top_k_top_p", SamplerOptions { top_k: 40, top_p: 0.95, ..common }),
    ];
    let peaked = logits(40);
    let flat = vec![0.0; N_VOCAB];
    for (name, options) in cases {
        let mut sampler = Sampler::new(options.clone(), vec![]);
        for token in 0..1000 {
            sampler.accept(token * 17 % 4096);
        }
        criterion.bench_function(&format!("sample/{name}"), |b| b.iter(|| sampler.sample(black_box(&peaked))));
        let mut sampler = Sampler::new(options, vec![]);
        criterion.bench_function(&format!("sample_flat/{name}"), |b| b.iter(|| sampler.sample(black_box(&flat))));
    }
    let mut sampler = Sampler::new(plain, vec![]);
    let mut token = 0;
    criterion.bench_function("accept", |b| {
        b.iter(|| {
            token = (token + 17) % 4096;
            sampler.accept(black_box(token));
        });
    });
}

criterion_group!(benches, sampling);
criterion_main!(benches);
