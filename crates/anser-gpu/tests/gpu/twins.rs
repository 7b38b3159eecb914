//! The twins of a step that trace and time it.

use crate::harness::{Executor, device, load};
use crate::models::bound;
use anser_gpu::{Gpu, GpuOptions};
use anser_model::cases::nmse;
use anser_model::{Sequence, Step};

#[test]
fn a_trace_shows_every_operation_in_order() {
    let plan = load("tiny-v7n32.st");
    let reads: Vec<_> = plan.nodes.iter().flat_map(|n| n.op.outputs()).collect();
    let tokens = [5, 250, 17];
    let mut reference = Executor::reference(&plan);
    let sequences = [Sequence { slot: reference.create_state(), n_tokens: 3 }];
    let step = Step { tokens: &tokens, sequences: &sequences, outputs: &[2], reads: &reads, inputs: &[] };
    let expected = reference.step(&step);

    let mut gpu = Gpu::new(plan.clone(), &device(), GpuOptions::default()).unwrap();
    gpu.create_state().unwrap();
    let mut seen = vec![];
    gpu.trace(&step, |node, value, data| {
        let error = nmse(data, &expected[seen.len()]);
        assert!(error <= bound(GpuOptions::default()), "{}: nmse {error:e}", node.name);
        seen.push(value);
    })
    .unwrap();
    assert_eq!(seen, reads);
}

#[test]
fn a_profile_names_every_kernel_and_advances_the_state_as_a_step_does() {
    let plan = load("tiny-v7n32.st");
    let run = |profile: bool| {
        let mut gpu = Gpu::new(plan.clone(), &device(), GpuOptions::default()).unwrap();
        let sequences = [Sequence { slot: gpu.create_state().unwrap(), n_tokens: 2 }];
        let reads = [plan.logits.unwrap()];
        let step = Step { tokens: &[1, 2], sequences: &sequences, outputs: &[1], reads: &reads, inputs: &[] };
        let times = match profile {
            true => gpu.profile(&step).unwrap(),
            false => gpu.step(&step).map(|_| vec![]).unwrap(),
        };
        (times, gpu.read_state(sequences[0].slot).unwrap())
    };
    let (times, state) = run(true);
    assert_eq!(state, run(false).1);
    let wkv = times.iter().find(|t| t.label == "wkv7").expect("the recurrence runs");
    let (c, n) = (plan.value(plan.residuals[0]).n_cols as u64, 32);
    // r, w, k, v, kk, a and out of two tokens, and S both ways
    assert_eq!(wkv.n_bytes, 4 * (7 * 2 * c + 2 * c * n));
    assert!(times.iter().all(|t| t.elapsed_us.is_finite() && t.n_bytes > 0));
    assert!(times.iter().any(|t| t.node == "head"), "{times:?}");
}
