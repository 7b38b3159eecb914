//! Every operation on its own, in all combinations of features.

use crate::harness::{Executor, feature_sets};
use anser_model::cases::{Case, all, nmse};
use anser_model::{Sequence, Step};

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
                assert!(error <= case.bound, "{}: result {i}, {options:?}: nmse {error:e}", case.name);
            }
        }
    }
}
