//! Every operation on its own, in all combinations of features.

use crate::harness::{Executor, device, feature_sets, open};
use anser_format::DType;
use anser_gpu::{Gpu, GpuOptions};
use anser_model::cases::{Case, all, nmse};
use anser_model::{Op, PlanBuilder, Rows, Sequence, StateLayout, StatePart, StateRef, Step};
use std::sync::Arc;

/// The case's bound; wider where numbers are rounded: to F16, which loses up to 2⁻¹¹ of each, weights of types that the
/// GPU keeps as others, and the operands of cooperative matrices; to 8 bits, which lose up to 1/254 of the largest of 16,
/// the activations that few tokens multiply with quantized weights, once for each product.
fn bound(case: &Case, options: GpuOptions) -> f64 {
    let rounds = |dtype| matches!(dtype, DType::Q4_1 | DType::Q5_1 | DType::Q2_K | DType::IQ4_XS);
    let weights: Vec<_> = case
        .plan
        .nodes
        .iter()
        .filter_map(|node| match &node.op {
            Op::MatMul { weight, .. } => Some(case.plan.weight(*weight)),
            _ => None,
        })
        .collect();
    let n_quantized = weights.iter().filter(|weight| weight.dtype().is_quantized()).count();
    let by_hardware = device().report().coop_matrix && !options.no_subgroups;
    let in_halves = (by_hardware || options.plain_matrices) && !options.no_f16 && !options.exact;
    match &weights[..] {
        _ if n_quantized > 0 && case.tokens.len() <= 8 && !options.exact => 5e-5 * n_quantized as f64,
        [weight, ..] if rounds(weight.dtype()) || in_halves => 1e-6,
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

/// Compares what `executor` computes with what is expected.
fn check(case: &Case, executor: &mut Executor, expected: &[Vec<f32>], options: GpuOptions, what: &str) {
    let actual = run(case, executor);
    assert_eq!(actual.len(), expected.len());
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let error = nmse(a, e);
        assert!(error <= bound(case, options), "{}: result {i}, {options:?}{what}: nmse {error:e}", case.name);
    }
}

fn multiplies(case: &Case) -> bool {
    case.plan.nodes.iter().any(|node| matches!(node.op, Op::MatMul { .. }))
}

#[test]
fn kernels_equal_the_plain_loops() {
    for case in all() {
        let expected = run(&case, &mut Executor::reference(&case.plan));
        // Only products differ in how far they round.
        let sets = feature_sets().into_iter().filter(|options| multiplies(&case) || !options.exact);
        for options in sets {
            check(&case, &mut Executor::gpu(&case.plan, options), &expected, options, "");
        }
    }
}

/// Products in every shape that a measurement may choose, also by plain arithmetic in place of cooperative matrices, and with
/// their matrices in row ranges. What shapes change is the same for all storage types, so that a few of them do.
#[test]
fn every_candidate_equals_the_plain_loops() {
    /// Beginnings of the cases' names, and whether they have tiles.
    const CASES: [(&str, bool); 12] = [
        ("matmul F16 96x512 T=1 ", false),
        ("matmul Q8_0 96x512 T=1 ", false),
        ("matmul Q4_K 96x512 T=2 ", false),
        ("matmul F16 96x512 T=8 ", false),
        ("matmul Q4_K 96x512 T=8 ", false),
        ("matmul F32 96x512 T=17 ", true),
        ("matmul F16 96x512 T=64 ", true),
        ("matmul Q8_0 96x512 T=64 ", true),
        ("matmul Q6_K 70x2560 T=65 ", true),
        ("feed_forward F16 C=64 F=512 T=1", false),
        ("feed_forward F16 C=64 F=512 T=8", false),
        ("feed_forward F16 C=64 F=512 T=64", true),
    ];

    let all = all();
    let mut n_checked = 0;
    for (name, has_tiles) in CASES {
        let case = all.iter().find(|case| case.name.starts_with(name)).unwrap_or_else(|| panic!("no case {name}"));
        let expected = run(case, &mut Executor::reference(&case.plan));
        let plain = GpuOptions { plain_matrices: true, ..GpuOptions::default() };
        let split = GpuOptions { max_binding_n_bytes: Some(140_000), ..plain };
        let mut sets = if has_tiles { vec![GpuOptions::default(), plain, split] } else { vec![GpuOptions::default()] };
        // No buffer of this size holds the input of the widest.
        sets.retain(|options| options.max_binding_n_bytes.is_none() || !name.contains("2560"));
        for options in sets {
            // On a device of its own, which takes the many kernels with it.
            let mut executor = Executor::Gpu(Box::new(Gpu::new(case.plan.clone(), &open(), options).unwrap()));
            let n = match &mut executor {
                Executor::Gpu(gpu) => n_candidates(case, gpu),
                Executor::Cpu(_) => 1,
            };
            for number in 1..n {
                if let Executor::Gpu(gpu) = &mut executor {
                    gpu.set_trial(Some(number));
                }
                check(case, &mut executor, &expected, options, &format!(", candidate {number}"));
                n_checked += 1;
            }
        }
    }
    assert!(n_checked > 100, "{n_checked}");
}

/// The most candidates that a kernel of the case has.
fn n_candidates(case: &Case, gpu: &mut Gpu) -> usize {
    let slots: Vec<_> = case.lengths.iter().map(|_| gpu.create_state().unwrap()).collect();
    let each = slots.iter().zip(&case.lengths);
    let sequences: Vec<_> = each.map(|(&slot, &n_tokens)| Sequence { slot, n_tokens }).collect();
    let inputs: Vec<_> = case.inputs.iter().map(|(id, data)| (*id, &data[..])).collect();
    let Case { tokens, outputs, reads, .. } = case;
    let n = gpu.n_candidates(&Step { tokens, sequences: &sequences, outputs, reads, inputs: &inputs }).unwrap();
    slots.into_iter().for_each(|slot| gpu.drop_state(slot));
    n
}

/// Where few rows fit a buffer, also by operations that run by themselves.
#[test]
fn feed_forward_in_row_ranges() {
    // Values of more rows do not fit a buffer either.
    let fits = |case: &Case| case.name.starts_with("feed_forward F16 C=64") && case.tokens.len() <= 17;
    let cases: Vec<_> = all().into_iter().filter(fits).collect();
    assert!(!cases.is_empty());
    for case in cases {
        let expected = run(&case, &mut Executor::reference(&case.plan));
        for (options, no_fusion) in feature_sets().into_iter().flat_map(|set| [(set, false), (set, true)]) {
            let options = GpuOptions { no_fusion, max_binding_n_bytes: Some(40_000), ..options };
            check(&case, &mut Executor::gpu(&case.plan, options), &expected, options, "");
        }
    }
}

/// A recurrence over sequences of `lengths` tokens with `n_heads` heads of any size, and numbers that keep it stable.
fn recurrence(lengths: &[usize], n_heads: usize, head_size: usize) -> Case {
    let n_cols = n_heads * head_size;
    let part = StatePart { name: "wkv", shape: vec![n_heads, head_size, head_size] };
    let name = format!("wkv7 B×T={lengths:?} H={n_heads} N={head_size}");
    let mut plan = PlanBuilder::new(name.clone(), StateLayout { n_layer: 1, parts: vec![part] }, 300);
    let n_tokens: usize = lengths.iter().sum();
    let noise = |seed: usize, len: usize| (0..len).map(move |i| ((i * 7919 + seed * 104_729) as f32 * 0.618).sin());
    let mut inputs = vec![];
    let mut input = |seed: usize, name: &str, f: fn(f32, f32) -> f32| {
        let id = plan.input(name, Rows::Tokens, n_cols);
        let scale = (head_size as f32).sqrt().recip();
        inputs.push((id, noise(seed, n_tokens * n_cols).map(|x| f(x, scale)).collect::<Vec<f32>>()));
        id
    };
    let r = input(1, "r", |x, _| x);
    let w = input(2, "w", |x, _| 0.8 + 0.15 * x);
    let k = input(3, "k", |x, _| x);
    let v = input(4, "v", |x, _| x);
    let kk = input(5, "kk", |x, scale| x * scale); // length at most 1
    let a = input(6, "a", |x, _| 0.5 + 0.5 * x);
    let out = plan.wkv7("wkv", [r, w, k, v, kk, a], StateRef { part: 0, layer: 0 }, head_size);
    let states = lengths.iter().enumerate().map(|(i, _)| noise(10 + i, n_cols * head_size).collect()).collect();
    Case {
        name,
        plan: Arc::new(plan.finish(None, None)),
        tokens: vec![0; n_tokens],
        lengths: lengths.to_vec(),
        outputs: vec![],
        inputs,
        states,
        reads: vec![out],
        bound: 1e-10,
    }
}

#[test]
fn heads_may_have_any_size() {
    for head_size in [8, 9, 12, 16, 30, 40, 96, 250, 256] {
        let case = recurrence(&[3, 1, 37], 2, head_size);
        let expected = run(&case, &mut Executor::reference(&case.plan));
        for options in feature_sets() {
            let actual = run(&case, &mut Executor::gpu(&case.plan, options));
            for (i, (a, e)) in actual.iter().zip(&expected).enumerate() {
                let error = nmse(a, e);
                assert!(error <= case.bound, "{}: result {i}, {options:?}: nmse {error:e}", case.name);
            }
        }
    }
}
