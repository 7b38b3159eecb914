//! Every operation on its own, in all combinations of features.

use crate::harness::{Executor, device, feature_sets};
use anser_format::DType;
use anser_gpu::GpuOptions;
use anser_model::cases::{Case, all, nmse};
use anser_model::{Op, Sequence, Step};

/// The case's bound; wider where numbers are rounded to F16, which loses up to 2⁻¹¹ of each: weights of types that the
/// GPU keeps as others, and the operands of cooperative matrices.
fn bound(case: &Case, options: GpuOptions) -> f64 {
    let rounds = |dtype| matches!(dtype, DType::Q4_1 | DType::Q5_1 | DType::Q2_K | DType::IQ4_XS);
    let weight = case.plan.nodes.iter().find_map(|node| match &node.op {
        Op::MatMul { weight, .. } => Some(case.plan.weight(*weight)),
        _ => None,
    });
    let coop_matrix = device().report().coop_matrix && !options.no_f16 && !options.no_subgroups;
    match weight {
        Some(weight) if rounds(weight.dtype()) || coop_matrix => 1e-6,
        _ => case.bound,
    }
}

/// What the case's operation wrote, value after value, then every sequence's state.
fn run(case: &Case, executor: &mut Executor) -> Vec<Vec<f32>> {
    let mut sequences = vec![];
    for (state, &n_tokens) in case.states.iter().zip(&case.lengths) {
        let slot = executor.create_state();
        executor.write_state(slot, state);
        sequences.push(Sequence { slot, n_tokens });
    }
    let inputs: Vec<_> = case.inputs.iter().map(|(id, data)| (*id, &data[..])).collect();
    let Case { tokens, outputs, reads, .. } = case;
    let mut results = executor.step(&Step { tokens, sequences: &sequences, outputs, reads, inputs: &inputs });
    results.extend(sequences.iter().map(|s| executor.read_state(s.slot)));
    results
}

#[test]
fn kernels_equal_the_plain_loops() {
    for case in all() {
        let expected = run(&case, &mut Executor::reference(&case.plan));
        for options in feature_sets() {
            let actual = run(&case, &mut Executor::gpu(&case.plan, options));
            assert_eq!(actual.len(), expected.len());
            for (i, (a, e)) in actual.iter().zip(&expected).enumerate() {
                let error = nmse(a, e);
                assert!(error <= bound(&case, options), "{}: result {i}, {options:?}: nmse {error:e}", case.name);
            }
        }
    }
}
