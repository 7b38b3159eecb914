//! Speed of expanding and making blocks, one thread: elements per second for each type.
//!
//! `cargo bench -p anser-format`

use std::hint::black_box;

use anser_format::DType;
use anser_format::quant::{dequantize, quantize};
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
        // Zeros where there is no quantizer: the work does not depend on the bits.
        let n_bytes = dtype.row_n_bytes(LEN).expect("whole blocks");
        let bytes = quantize(dtype, &values()).unwrap_or_else(|_| vec![0; n_bytes]);
        group.bench_function(dtype.name(), |b| b.iter(|| dequantize(dtype, black_box(&bytes), &mut out)));
    }
    group.finish();
}

fn bench_quantize(c: &mut Criterion) {
    let mut group = c.benchmark_group("quantize");
    group.throughput(Throughput::Elements(LEN as u64));
    let values = values();
    for dtype in [DType::F16, DType::Q8_0, DType::Q6_K, DType::Q5_K, DType::Q4_K] {
        group.bench_function(dtype.name(), |b| b.iter(|| quantize(dtype, black_box(&values))));
    }
    group.finish();
}

criterion_group!(benches, bench_dequantize, bench_quantize);
criterion_main!(benches);
