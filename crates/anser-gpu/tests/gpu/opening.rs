//! Devices opened, used and dropped by several threads at once. Drivers load and unload libraries for a process's first and
//! last use of them, so the first one counts: a child process does nothing else.

use crate::harness::{alone, load, open};
use anser_gpu::{Device, Gpu, GpuOptions};
use anser_model::{Sequence, Step};
use std::sync::Barrier;

#[test]
fn threads_open_and_drop_devices_at_once() {
    alone("opening::open_from_eight_threads");
}

#[test]
#[ignore = "run by threads_open_and_drop_devices_at_once"]
fn open_from_eight_threads() {
    const N_THREADS: usize = 8;
    const N_ROUNDS: usize = 3;

    let start = Barrier::new(N_THREADS);
    let logits = || {
        start.wait();
        let rounds = (0..N_ROUNDS).map(|_| {
            assert!(!Device::list().is_empty());
            // Gone before the next round, while others open theirs.
            let device = open();
            let plan = load("tiny-v7mini-f16.gguf");
            let mut gpu = Gpu::new(plan.clone(), &device, GpuOptions::default()).unwrap();
            let sequences = [Sequence { slot: gpu.create_state().unwrap(), n_tokens: 1 }];
            let reads = [plan.logits.unwrap()];
            let step = Step { tokens: &[7], sequences: &sequences, outputs: &[0], reads: &reads, inputs: &[] };
            gpu.step(&step).unwrap()
        });
        rounds.collect::<Vec<_>>()
    };
    let all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..N_THREADS).map(|_| scope.spawn(logits)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(all.iter().all(|logits| *logits == all[0]), "every device computes the same");
}
