//! The threaded kernels against the plain loops, case by case.

use anser_cpu::{Cpu, Mode, Options};
use anser_model::cases::{Case, all, nmse};
use anser_model::{Op, Sequence, Step};

/// The values that the case's operation wrote, one after the other, then every sequence's state.
fn run(case: &Case, options: Options) -> Vec<Vec<f32>> {
    let mut cpu = Cpu::new(case.plan.clone(), options).unwrap();
    let mut sequences = vec![];
    for (state, &n_tokens) in case.states.iter().zip(&case.lengths) {
        let slot = cpu.create_state();
        cpu.state_mut(slot).unwrap().copy_from_slice(state);
        sequences.push(Sequence { slot, n_tokens });
    }
    let inputs: Vec<_> = case.inputs.iter().map(|(id, data)| (*id, &data[..])).collect();
    let Case { tokens, outputs, reads, .. } = case;
    let mut results = cpu.step(&Step { tokens, sequences: &sequences, outputs, reads, inputs: &inputs }).unwrap();
    results.extend(sequences.iter().map(|s| cpu.state(s.slot).unwrap().to_vec()));
    results
}

/// Rounding the inputs of a product to 8 bits, in blocks of 32 between −1 and 1: the step 1/127 has variance 1/(12·127²)
/// where the inputs have 1/3, 1.6e-5; minima and offsets of the weights add to it. Each product of a case adds as much.
const INT8: f64 = 1e-4;

#[test]
fn threaded_kernels_equal_the_plain_loops() {
    for case in all() {
        let expected = run(&case, Options { mode: Mode::Reference, ..Options::default() });
        let is_rounded = |op: &Op| match op {
            Op::MatMul { weight, .. } => case.plan.weight(*weight).dtype().is_quantized(),
            _ => false,
        };
        let n_rounded = case.plan.nodes.iter().filter(|n| is_rounded(&n.op)).count();
        let fast = if n_rounded > 0 { INT8 * n_rounded as f64 } else { case.bound };
        for (mode, bound) in [(Mode::Exact, case.bound), (Mode::Fast, fast)] {
            for n_threads in [1, 3] {
                let actual = run(&case, Options { n_threads: Some(n_threads), mode, ..Options::default() });
                assert_eq!(actual.len(), expected.len());
                for (i, (a, e)) in actual.iter().zip(&expected).enumerate() {
                    let error = nmse(a, e);
                    assert!(error <= bound, "{}: result {i}, {mode:?}, {n_threads} threads: nmse {error:e}", case.name);
                }
            }
        }
    }
}
