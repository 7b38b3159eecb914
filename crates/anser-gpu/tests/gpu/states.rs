//! States go to the device and back without a change.

use crate::harness::{device, load};
use anser_gpu::{Gpu, GpuOptions};
use std::sync::Arc;

/// A tiny model's plan with a state of at least `n` numbers: with more heads than are run.
fn with_large_state(n: usize) -> Arc<anser_model::Plan> {
    let mut plan = (*load("tiny-v7mini-f16.gguf")).clone();
    let wkv = plan.state.part("wkv").unwrap();
    plan.state.parts[wkv].shape[0] *= n.div_ceil(plan.state.len());
    Arc::new(plan)
}

#[test]
fn large_states_come_back_as_they_were_written() {
    // Of one piece, of two, and of as many as there are; pieces end amid the numbers of a layer.
    for n in [1000, 600_000, 3_000_000] {
        let plan = with_large_state(n);
        let mut gpu = Gpu::new(plan.clone(), &device(), GpuOptions::default()).unwrap();
        let [a, b, fresh] = [0; 3].map(|_| gpu.create_state().unwrap());
        let states = [0.5, -3.0].map(|start| (0..plan.state.len()).map(|i| start + i as f32).collect::<Vec<_>>());
        gpu.write_state(a, &states[0]).unwrap();
        gpu.write_state(b, &states[1]).unwrap();
        // Twice: the buffers in between are used again.
        for _ in 0..2 {
            assert!(gpu.read_state(a).unwrap() == states[0]);
            assert!(gpu.read_state(b).unwrap() == states[1]);
        }
        gpu.copy_state(a, b).unwrap();
        assert!(gpu.read_state(b).unwrap() == states[0]);
        assert!(gpu.read_state(fresh).unwrap() == vec![0.0; plan.state.len()]);
    }
}
