//! Speed of expanding and making blocks, one thread: elements per second for each type.
//!
//! `cargo bench -p anser-format`

use std::hint::black_box;

use anser_format::DType;
use anser_format::quant::{dequantize, quantize, quantize_row};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Elements per call: 1 MiB of F32, which stays in the second-level cache.
const LEN: usize = 1 << 18;

/// A wave whose amplitude varies from block to block, as rows of weights do.
fn values() -> Vec<f32> {
    (0..LEN).map(|i| (i as f32 * 0.7).sin() * (1.0 + (i as f32 * 1e-3).cos())).collect()
}

fn bench_dequantize(c: &mut Criterion) {
    let mut group = c.benchmark_group("dequantize");
    group.throughput(Throughput::Elements(LEN as u64));
    let mut out = vec![0.0; LEN];
    for dtype in DType::ALL {
        let bytes = match dtype.has_quantizer() {
            true => quantize(dtype, &values()).expect("whole blocks of small numbers"),
            // Any bytes are blocks; these keep F16 scales finite.
            false => (0..LEN / 256 * dtype.block_n_bytes()).map(|i| (i * 37 % 101) as u8).collect(),
        };
        group.bench_function(dtype.name(), |b| b.iter(|| dequantize(dtype, black_box(&bytes), &mut out)));
    }
    group.finish();
}

fn bench_quantize(c: &mut Criterion) {
    let mut group = c.benchmark_group("quantize");
    group.throughput(Throughput::Elements(LEN as u64));
    let values = values();
    let importance: Vec<f32> = values.iter().map(|value| value * value).collect();
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.has_quantizer()) {
        group.bench_function(dtype.name(), |b| b.iter(|| quantize(dtype, black_box(&values))));
        if dtype.is_quantized() {
            let name = format!("{dtype} with importances");
            group.bench_function(name, |b| b.iter(|| quantize_row(dtype, black_box(&values), Some(&importance))));
        }
    }
    group.finish();
}

criterion_group!(benches, bench_dequantize, bench_quantize);
criterion_main!(benches);
