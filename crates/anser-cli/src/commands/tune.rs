//! `anser tune`

use crate::args::TuneArgs;
use crate::interrupt;
use crate::output::Output;
use crate::report::Failure;
use crate::term::{Progress, note};
use anser::{CancelToken, Tuned, TunedKernel, TunedStep};
use serde::Serialize;
use std::ops::ControlFlow;

/// The JSON object that `--json` prints; the help describes it.
#[derive(Serialize)]
struct Report<'a> {
    device: &'a str,
    n_cores: u32,
    steps: Vec<Step<'a>>,
}

#[derive(Serialize)]
struct Step<'a> {
    n_tokens: usize,
    usual_us: f64,
    tuned_us: f64,
    kept: bool,
    kernels: Vec<Kernel<'a>>,
}

#[derive(Serialize)]
struct Kernel<'a> {
    kernel: &'a str,
    n_candidates: usize,
    usual: &'a str,
    usual_us: f64,
    tuned: &'a str,
    tuned_us: f64,
}

pub(crate) fn run(args: &TuneArgs) -> Result<(), Failure> {
    let model = args.model.load()?;
    let cancel = CancelToken::default();
    let _armed = interrupt::arm(&cancel);
    let mut progress = Progress::new("measuring");
    let tuned = model.tune(|done, total| {
        progress.update(done, total);
        if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    drop(progress);
    let mut output = Output::new();
    match args.json {
        true => output.write_json(&report(model.device(), &tuned))?,
        false => output.write(table(&tuned, args.all))?,
    }
    if !tuned.is_kept {
        note("Nothing is kept: there is no folder for it, or ANSER_GPU_NO_TUNING is set.");
    }
    if cancel.is_cancelled() { Err(Failure::Interrupted) } else { Ok(()) }
}

fn report<'a>(device: &'a str, tuned: &'a Tuned) -> Report<'a> {
    let kernel = |kernel: &'a TunedKernel| Kernel {
        kernel: &kernel.key,
        n_candidates: kernel.n_candidates,
        usual: &kernel.candidates[0],
        usual_us: kernel.elapsed_us[0],
        tuned: &kernel.candidates[1],
        tuned_us: kernel.elapsed_us[1],
    };
    let step = |step: &'a TunedStep| Step {
        n_tokens: step.n_tokens,
        usual_us: step.elapsed_us[0],
        tuned_us: step.elapsed_us[1],
        kept: step.is_kept,
        kernels: step.kernels.iter().map(kernel).collect(),
    };
    Report { device, n_cores: tuned.n_cores, steps: tuned.steps.iter().map(step).collect() }
}

/// A line for each number of tokens, and with `all` one for each kernel below it.
fn table(tuned: &Tuned, all: bool) -> String {
    let mut text = format!(
        "{:>6} {:>12} {:>12} {:>7}  about {} cores\n",
        "tokens", "usual µs", "tuned µs", "ratio", tuned.n_cores
    );
    for step in &tuned.steps {
        let [usual, best] = step.elapsed_us;
        let verdict = if step.is_kept { "kept" } else { "no faster: the usual shapes stay" };
        text += &format!("{:>6} {usual:>12.1} {best:>12.1} {:>7.3}  {verdict}\n", step.n_tokens, usual / best);
        for kernel in step.kernels.iter().filter(|_| all) {
            let ([usual, best], [from, to]) = (kernel.elapsed_us, &kernel.candidates);
            let change = if from == to { from.clone() } else { format!("{from} -> {to}") };
            text += &format!("       {usual:>12.1} {best:>12.1} {:>7.3}  {}: {change}\n", usual / best, kernel.key);
        }
    }
    text
}
