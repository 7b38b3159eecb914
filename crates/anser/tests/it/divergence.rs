//! Comparisons of models against plain loops in f64 over logits and numbers of the files.

use crate::fixtures::{demo_path, root};
use anser::{Calibration, Device, Error, Model, Options, Want, Weight, Which};
use anser_format::ModelFile;
use anser_format::quant::dequantize;
use std::ops::ControlFlow;

fn demo(name: &str) -> Model {
    Model::load(demo_path(name), &Options { device: Device::Cpu, exact: true, ..Options::default() }).unwrap()
}

fn text() -> Vec<u8> {
    std::fs::read(root().join("fixtures/expected/perplexity.txt")).unwrap()
}

fn go_on(_: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The softmax of a row in f64.
fn softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::MIN, f32::max);
    let exp: Vec<f64> = logits.iter().map(|&x| (f64::from(x) - f64::from(most)).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|x| x / sum).collect()
}

fn logits(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let want = Want { logits: Which::All, hidden: Which::None };
    model.session().unwrap().feed_for(tokens, want, go_on).unwrap().logits
}

#[test]
fn divergence_and_perplexity_are_those_of_the_softmaxes() {
    let (a, b) = (demo("demo-f16.gguf"), demo("demo-q4_k_m.gguf"));
    let tokens = a.encode(text()).unwrap();
    let pieces = [&tokens[..70], &tokens[100..101], &tokens[200..230]];
    let found = a.compare(&b, &pieces, go_on).unwrap();
    let (mut kl, mut n_same, mut nll) = (vec![], 0, 0.0);
    let n_vocab = a.config().n_vocab;
    for piece in [pieces[0], pieces[2]] {
        let read = &piece[..piece.len() - 1];
        let rows = [&a, &b].map(|model| logits(model, read));
        for t in 0..read.len() {
            let [p, q] = [0, 1].map(|i| softmax(&rows[i][t * n_vocab..][..n_vocab]));
            kl.push(p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum::<f64>());
            let top = |p: &[f64]| (0..p.len()).rev().max_by(|&i, &j| p[i].total_cmp(&p[j])).unwrap();
            n_same += usize::from(top(&p) == top(&q));
            nll -= q[piece[t + 1] as usize].ln();
        }
    }
    assert_eq!((found.divergence.kl.len(), kl.len(), found.b.nll.len()), (98, 98, 98));
    for (found, expected) in found.divergence.kl.iter().zip(&kl) {
        assert!((found - expected).abs() <= 1e-6 + 1e-4 * expected, "{found} beside {expected}");
    }
    assert!(found.divergence.mean() > 1e-4, "the quantized model differs");
    assert_eq!(found.divergence.n_same_top, n_same);
    assert!((found.b.mean_nll() - nll / 98.0).abs() < 1e-5, "{} beside {}", found.b.mean_nll(), nll / 98.0);
    assert_eq!(found.a.nll[..69], a.perplexity(pieces[0], go_on).unwrap().nll[..]);

    // A model beside itself.
    let found = a.compare(&a, &pieces[..1], go_on).unwrap();
    assert_eq!((found.divergence.quantile(1.0), found.divergence.same_top()), (0.0, 1.0));
    assert_eq!(found.a, found.b);

    assert!(matches!(a.compare(&b, &pieces[1..2], go_on), Err(Error::Option { option: "text", .. })));
    let stop = a.compare(&b, &pieces, |_, _| ControlFlow::Break(()));
    assert!(matches!(stop, Err(Error::Cancelled)), "{stop:?}");
}

/// A tensor's numbers as the file's own index has them.
fn numbers(name: &str, tensor: &str) -> Vec<f32> {
    let file = ModelFile::open(demo_path(name)).unwrap();
    let tensor = file.tensor(tensor).unwrap();
    let mut numbers = vec![0.0; tensor.shape().iter().product()];
    dequantize(tensor.dtype(), tensor.bytes(), &mut numbers);
    numbers
}

#[test]
fn weights_errors_are_those_of_the_files_numbers() {
    let (a, b) = (demo("demo-f16.gguf"), demo("demo-q4_k_m.gguf"));
    let found = a.weight_errors(&b, go_on).unwrap();
    assert_eq!(found.errors.len(), a.plan().weights.len());
    assert_eq!(found.unmatched, Vec::<String>::new());
    for (name, tensor) in
        [("blocks.3.ffn.key.weight", "blk.3.channel_mix_key.weight"), ("head.weight", "output.weight")]
    {
        let [a, b] = ["demo-f16.gguf", "demo-q4_k_m.gguf"].map(|file| numbers(file, tensor));
        let difference: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a - b).powi(2)).sum();
        let expected = (difference / a.iter().map(|&a| f64::from(a).powi(2)).sum::<f64>()).sqrt();
        let error = found.errors.iter().find(|error| error.name == name).unwrap();
        assert!((error.relative / expected - 1.0).abs() < 1e-5, "{error:?}, expected {expected}");
        assert!(error.relative > 1e-3);
    }
    let norm = found.errors.iter().find(|error| error.name == "ln_out.weight").unwrap();
    assert_eq!(norm.relative, 0.0);
    assert!(a.weight_errors(&a, go_on).unwrap().errors.iter().all(|error| error.relative == 0.0));
}

/// The divergence with all matrices of another file in the place of the model's own is that of the other model.
#[test]
fn calibration_measures_the_model_with_other_weights() {
    let (a, b) = (demo("demo-f16.gguf"), demo("demo-q5_k_m.gguf"));
    let tokens = a.encode(text()).unwrap();
    let pieces = [&tokens[..60], &tokens[60..90]];
    let calibration = Calibration::new(&a, &pieces, None, go_on).unwrap();
    assert_eq!(calibration.n_tokens(), 90);
    assert_eq!(calibration.divergence(&[], go_on).unwrap().quantile(1.0), 0.0);
    let weights: Vec<Weight> = b.plan().weights.to_vec();
    let found = calibration.divergence(&weights, go_on).unwrap();
    // `compare` leaves the last token of a piece out.
    let expected = a.compare(&b, &pieces, go_on).unwrap().divergence;
    for (found, expected) in found.kl[..59].iter().zip(&expected.kl[..59]) {
        assert!((found - expected).abs() <= 1e-6 + 1e-3 * expected, "{found} beside {expected}");
    }
    assert_eq!(found.kl.len(), 90);
    let other = Model::load(root().join("fixtures/unpacked/formats/m6.pth"), &Options::default()).unwrap();
    assert!(calibration.divergence(&other.plan().weights[..1], go_on).is_err());
}
