//! Sums of squared inputs against those of the plain loops, whose values are read one by one.

use crate::fixtures::root;
use anser::{Device, InputSquares, Model, Options};
use anser_cpu::{Cpu, Mode};
use anser_model::{Op, Sequence, Step, ValueId};

fn load(name: &str) -> Model {
    let path = root().join("fixtures/unpacked/formats").join(name);
    Model::load(path, &Options { device: Device::Cpu, ..Options::default() }).unwrap()
}

/// For every matrix product of the plan, in its order: the matrix's name, and Σ x² of each column over the pieces, in f64, of values that
/// the plain loops computed a token at a time.
fn expected(model: &Model, pieces: &[&[u32]]) -> Vec<(String, Vec<f64>)> {
    let plan = model.plan();
    let products: Vec<(String, ValueId)> = plan
        .nodes
        .iter()
        .filter_map(|node| match node.op {
            Op::MatMul { weight, x, .. } => Some((plan.weight(weight).name().to_owned(), x)),
            _ => None,
        })
        .collect();
    let mut reads: Vec<ValueId> = products.iter().map(|&(_, x)| x).collect();
    reads.sort();
    reads.dedup();
    let mut sums: Vec<(String, Vec<f64>)> =
        products.iter().map(|(name, x)| (name.clone(), vec![0.0; plan.value(*x).n_cols])).collect();
    let mut cpu = Cpu::new(plan.clone(), anser_cpu::Options { mode: Mode::Reference, ..Default::default() }).unwrap();
    for piece in pieces {
        let slot = cpu.create_state();
        for token in *piece {
            let sequences = [Sequence { slot, n_tokens: 1 }];
            let step = Step { tokens: &[*token], sequences: &sequences, outputs: &[0], reads: &reads, inputs: &[] };
            let values = cpu.step(&step).unwrap();
            for ((_, x), (_, sums)) in products.iter().zip(&mut sums) {
                let row = &values[reads.binary_search(x).unwrap()];
                sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
            }
        }
        cpu.drop_state(slot);
    }
    sums
}

#[test]
fn sums_are_those_of_the_plain_loops_in_every_version() {
    let tokens: Vec<u32> = (0..70).map(|i| 1 + i * 7 % 60).collect();
    let pieces = [&tokens[..33], &tokens[33..34], &tokens[34..]];
    for name in
        ["m4.pth", "m52.pth", "m6.pth", "gguf/f7-f16.gguf", "m7a.pth", "gguf/rwkv6qwen2.gguf", "gguf/arwkv7.gguf"]
    {
        let model = load(name);
        let mut squares = InputSquares::new(&model, Some(2)).unwrap();
        pieces.iter().for_each(|piece| squares.read(piece).unwrap());
        let mut found = squares.sums();
        // A matrix that several products read has the sums of all of them.
        let mut expected = expected(&model, &pieces);
        let by_name = |a: &str, b: &str| a.cmp(b);
        found.sort_by(|a, b| by_name(&a.name, &b.name));
        expected.sort_by(|a, b| by_name(&a.0, &b.0));
        assert_eq!(
            found.iter().map(|sums| &sums.name).collect::<Vec<_>>(),
            expected.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "{name}"
        );
        assert!(found.iter().any(|sums| sums.name == "head.weight"), "{name}");
        for (found, (matrix, expected)) in found.iter().zip(&expected) {
            assert_eq!(found.n_rows, 70, "{name}: {matrix}");
            let total: f64 = expected.iter().sum();
            let difference: f64 = found.sums.iter().zip(expected).map(|(a, b)| (a - b).abs()).sum();
            // Both compute in f32, in another order: rounding of 1e-7 that some layers amplify.
            assert!(difference <= 1e-4 * total, "{name}: {matrix}: {difference:.1e} of {total:.1e}");
        }
    }
}

#[test]
fn what_is_no_token_is_refused() {
    let mut squares = InputSquares::new(&load("m6.pth"), None).unwrap();
    assert!(squares.read(&[1, 1 << 20]).is_err());
}
