//! `anser perplexity`

use crate::args::PerplexityArgs;
use crate::input;
use crate::output::Output;
use crate::report::Failure;
use crate::term::Progress;
use serde::Serialize;
use std::ops::ControlFlow;
use std::time::Instant;

/// The JSON object that `--json` prints; the help describes it.
#[derive(Serialize)]
struct Scored {
    perplexity: f64,
    mean_nll: f64,
    n_scored: usize,
    elapsed_ms: f64,
}

pub(crate) fn run(args: &PerplexityArgs) -> Result<(), Failure> {
    let text = input::file(&args.file)?;
    let model = args.model.load()?;
    let tokens = model.encode(&text)?;
    if tokens.len() < 2 {
        let found = tokens.len();
        return Err(Failure::about(
            args.file.display(),
            format!("a perplexity needs at least 2 tokens, found {found}"),
        ));
    }
    let began = Instant::now();
    let mut progress = Progress::new("reading the text");
    let measured = model.perplexity(&tokens, |done, total| {
        progress.update(done, total);
        ControlFlow::Continue(())
    })?;
    drop(progress);
    let scored = Scored {
        perplexity: measured.perplexity(),
        mean_nll: measured.mean_nll(),
        n_scored: measured.nll.len(),
        elapsed_ms: began.elapsed().as_secs_f64() * 1e3,
    };
    if !scored.mean_nll.is_finite() {
        return Err(Failure::about(model.name(), "the logits are not finite numbers: the weights are damaged"));
    }
    let mut output = Output::new();
    if args.json {
        return output.write_json(&scored);
    }
    let Scored { perplexity, mean_nll, n_scored, .. } = scored;
    output.write(format!("perplexity {perplexity:.4} ({mean_nll:.4} nats per token over {n_scored} tokens)\n"))
}
