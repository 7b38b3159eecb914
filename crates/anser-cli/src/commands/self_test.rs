//! `anser self-test`: what the demo model computes on this machine's devices, against the values of an independent program.

use crate::args::{SelfTestArgs, load};
use crate::output::Output;
use crate::report::Failure;
use crate::version;
use anser::sampler::SamplerOptions;
use anser::{Device, GenerateOptions, GpuDevice, Model, Options};
use serde::Deserialize;
use std::path::Path;
use std::time::Instant;

/// Written by `fixtures/make_self_test.py`, which says where the values come from.
const EXPECTED: &str = include_str!("self_test/expected.json");

/// The largest normalised mean squared error of logits that a device may have which computes in floats and adds in its own order.
const EXACT_BOUND: f64 = 1e-8;
/// The same where activations are rounded to 8 or 16 bits.
const ROUNDED_BOUND: f64 = 1e-3;
/// A GPU's operation whose error is larger than this is named in the report.
const OPERATION_BOUND: f64 = 1e-4;

/// A prompt and what follows it.
#[derive(Deserialize)]
struct Case {
    name: String,
    tokens: Vec<u32>,
    /// The 64 largest logits after the prompt, with their token ids.
    logits: Vec<(usize, f32)>,
    /// The most likely tokens, one after another; none where two of them are nearly as likely somewhere.
    greedy: Vec<u32>,
}

impl Case {
    /// The normalised mean squared error of `logits` at the expected tokens; NaN if there is none.
    fn error_of(&self, logits: &[f32]) -> f64 {
        let of = |id: usize| f64::from(logits.get(id).copied().unwrap_or(f32::NAN));
        let squares: f64 = self.logits.iter().map(|&(id, expected)| (of(id) - f64::from(expected)).powi(2)).sum();
        let scale: f64 = self.logits.iter().map(|&(_, expected)| f64::from(expected).powi(2)).sum();
        squares / scale
    }
}

/// The numbers of checks that ran, and of those that failed.
#[derive(Default)]
struct Count {
    n: usize,
    n_failed: usize,
}

impl Count {
    /// Counts a check and prints its line.
    fn check(&mut self, output: &mut Output, passed: bool, line: &str) -> Result<(), Failure> {
        self.n += 1;
        self.n_failed += usize::from(!passed);
        output.write(format!("  {} {line}\n", if passed { "ok    " } else { "FAILED" }))
    }
}

pub(crate) fn run(args: &SelfTestArgs) -> Result<(), Failure> {
    let cases = cases()?;
    let devices = match &args.device {
        Some(device) => vec![device.clone()],
        None => devices(),
    };
    let began = Instant::now();
    let mut output = Output::new();
    output.write(version::long())?;
    let mut count = Count::default();
    for device in devices {
        for exact in [true, false] {
            let options = Options { device: device.clone(), exact, ..Options::default() };
            let tested = load(Path::new("demo"), &options)
                .and_then(|model| test(&model, exact, &cases, &mut count, &mut output));
            match tested {
                Ok(()) => {}
                Err(Failure::Run(message)) => count.check(&mut output, false, &format!("{device}: {message}"))?,
                Err(other) => return Err(other),
            }
        }
    }
    let Count { n, n_failed } = count;
    match n_failed {
        0 => output.write(format!("all {n} checks passed in {:.1} s\n", began.elapsed().as_secs_f64())),
        _ => Err(Failure::Run(format!("{n_failed} of {n} checks failed; report all of the lines above"))),
    }
}

fn cases() -> Result<Vec<Case>, Failure> {
    serde_json::from_str(EXPECTED).map_err(|error| Failure::about("the expected values of this build", error))
}

/// The processor and all GPUs but software ones.
fn devices() -> Vec<Device> {
    let hardware = GpuDevice::list().into_iter().filter(|report| report.kind != anser::DeviceKind::Software);
    let gpus = hardware.map(|report| Device::Gpu(anser::DeviceChoice::Number(report.number)));
    std::iter::once(Device::Cpu).chain(gpus).collect()
}

/// Runs all cases on the model's device.
fn test(model: &Model, exact: bool, cases: &[Case], count: &mut Count, output: &mut Output) -> Result<(), Failure> {
    let (how, bound) = match exact {
        true => ("in floats", EXACT_BOUND),
        false => ("activations in 8 or 16 bits", ROUNDED_BOUND),
    };
    output.write(format!("{}, {how}\n", model.device()))?;
    for case in cases {
        let mut session = model.session()?;
        session.feed(&case.tokens)?;
        let error = case.error_of(session.logits());
        let passed = error <= bound;
        let line =
            format!("{}: logits after {} tokens, error {error:.1e}, at most {bound:.0e}", case.name, case.tokens.len());
        count.check(output, passed, &line)?;
        if !passed {
            name_operation(model, case, output)?;
        }
        if exact && !case.greedy.is_empty() {
            let sampler = SamplerOptions::greedy();
            let options = GenerateOptions { sampler, max_tokens: case.greedy.len(), ..GenerateOptions::default() };
            let mut session = model.session()?;
            let mut generation = session.generate(&case.tokens, &options)?;
            generation.text()?;
            let n_same = case.greedy.iter().zip(generation.tokens()).take_while(|(a, b)| a == b).count();
            let line = format!("{}: {n_same} of {} tokens that follow", case.name, case.greedy.len());
            count.check(output, n_same == case.greedy.len(), &line)?;
        }
    }
    Ok(())
}

/// Says which operation of a GPU is the first to differ from the processor's plain loops.
fn name_operation(model: &Model, case: &Case, output: &mut Output) -> Result<(), Failure> {
    // On the processor there is nothing to compare with.
    let Ok(differences) = model.session()?.compare_with_reference(&case.tokens) else { return Ok(()) };
    let first = differences.iter().find(|one| one.nmse.is_nan() || one.nmse > OPERATION_BOUND);
    output.write(match first {
        Some(one) => format!("         {} differs first: its {} has the error {:.1e}\n", one.node, one.value, one.nmse),
        None => "         no operation by itself differs\n".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::{ROUNDED_BOUND, cases};

    /// A check that cannot fail would be none: the largest logit off by 8, and one that is no number.
    #[test]
    fn wrong_logits_are_found() {
        for case in cases().unwrap() {
            let mut logits = vec![0.0; 1 << 16];
            for &(id, expected) in &case.logits {
                logits[id] = expected;
            }
            assert_eq!(case.error_of(&logits), 0.0);
            let (largest, _) = case.logits[0];
            logits[largest] += 8.0;
            assert!(case.error_of(&logits) > ROUNDED_BOUND, "{}", case.name);
            logits[largest] = f32::NAN;
            assert!(case.error_of(&logits).is_nan());
            assert!(case.error_of(&logits[..1]).is_nan());
        }
    }
}
