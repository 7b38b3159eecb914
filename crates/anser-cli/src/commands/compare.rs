//! `anser compare`

use crate::args::CompareArgs;
use crate::input;
use crate::interrupt;
use crate::output::Output;
use crate::pieces::pieces;
use crate::report::Failure;
use crate::svg::{Chart, Series};
use crate::term::Progress;
use anser::{CancelToken, Comparison, Model, Perplexity, WeightError, WeightErrors, files};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

/// The JSON object that `--json` prints; the help describes it.
#[derive(Serialize)]
struct Report<'a> {
    a: Scored<'a>,
    b: Scored<'a>,
    n_compared: usize,
    kl: Spread,
    same_top: f64,
    weights: Vec<Weight<'a>>,
    unmatched: &'a [String],
    elapsed_ms: f64,
}

#[derive(Serialize)]
struct Scored<'a> {
    model: &'a str,
    perplexity: f64,
    mean_nll: f64,
}

#[derive(Serialize)]
struct Spread {
    mean: f64,
    median: f64,
    p99: f64,
    max: f64,
}

#[derive(Serialize)]
struct Weight<'a> {
    name: &'a str,
    shape: [usize; 2],
    type_a: &'static str,
    type_b: &'static str,
    relative_error: Option<f64>,
}

pub(crate) fn run(args: &CompareArgs) -> Result<(), Failure> {
    if let Some(plot) = &args.plot {
        files::check_output(plot, &[("the text", &args.file), ("a model", &args.a), ("a model", &args.b)])?;
    }
    let text = input::file(&args.file)?;
    let [a, b] = [args.opening.load(&args.a)?, args.opening.load(&args.b)?];
    if let Some(plot) = &args.plot {
        for model in [&a, &b] {
            let parts: Vec<_> = model.file().part_names().map(|part| ("a model", Path::new(part))).collect();
            files::check_output(plot, &parts)?;
        }
    }
    let tokens = a.encode(&text)?;
    if b.encode(&text)? != tokens {
        return Err(Failure::about(
            b.name(),
            format!(
                "its vocabulary cuts the text otherwise than that of {}; compare models of one vocabulary",
                a.name()
            ),
        ));
    }
    if tokens.len() < 2 {
        let found = tokens.len();
        return Err(Failure::about(
            args.file.display(),
            format!("a comparison needs at least 2 tokens, found {found}"),
        ));
    }
    let cancel = CancelToken::default();
    let _armed = interrupt::arm(&cancel);
    let mut progress = Progress::new("reading the text");
    let mut go_on = |done: usize, total: usize| {
        progress.update(done, total);
        if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let began = Instant::now();
    let compared = a.compare(&b, &pieces(&tokens, args.chunk, args.chunks), &mut go_on)?;
    let weights = a.weight_errors(&b, &mut go_on)?;
    drop(progress);
    let elapsed_ms = began.elapsed().as_secs_f64() * 1e3;
    for (model, scored) in [(&a, &compared.a), (&b, &compared.b)] {
        if !scored.mean_nll().is_finite() {
            return Err(Failure::about(model.name(), "the logits are not finite numbers: the weights are damaged"));
        }
    }
    if let Some(plot) = &args.plot {
        files::write(plot, chart(&a, &b, &weights).to_svg().as_bytes())?;
    }
    let mut output = Output::new();
    if args.json {
        return output.write_json(&report(&a, &b, &compared, &weights, elapsed_ms));
    }
    output.write(table(&a, &b, &compared, &weights))
}

fn report<'a>(
    a: &'a Model,
    b: &'a Model,
    compared: &Comparison,
    weights: &'a WeightErrors,
    elapsed_ms: f64,
) -> Report<'a> {
    let scored = |model: &'a Model, scored: &Perplexity| Scored {
        model: model.name(),
        perplexity: scored.perplexity(),
        mean_nll: scored.mean_nll(),
    };
    let weight = |error: &'a WeightError| Weight {
        name: &error.name,
        shape: error.shape,
        type_a: error.dtype_a.name(),
        type_b: error.dtype_b.name(),
        relative_error: Some(error.relative).filter(|error| error.is_finite()),
    };
    Report {
        a: scored(a, &compared.a),
        b: scored(b, &compared.b),
        n_compared: compared.divergence.kl.len(),
        kl: spread(compared),
        same_top: compared.divergence.same_top(),
        weights: weights.errors.iter().map(weight).collect(),
        unmatched: &weights.unmatched,
        elapsed_ms,
    }
}

fn spread(compared: &Comparison) -> Spread {
    let kl = &compared.divergence;
    Spread { mean: kl.mean(), median: kl.quantile(0.5), p99: kl.quantile(0.99), max: kl.quantile(1.0) }
}

fn table(a: &Model, b: &Model, compared: &Comparison, weights: &WeightErrors) -> String {
    let mut text = String::new();
    let Spread { mean, median, p99, max } = spread(compared);
    let (of_a, of_b) = (compared.a.perplexity(), compared.b.perplexity());
    let (n, same_top) = (compared.divergence.kl.len(), 100.0 * compared.divergence.same_top());
    // A write to a String does not fail.
    let _ = writeln!(text, "perplexity     {of_a:.4}  {}", a.name());
    let _ = writeln!(text, "               {of_b:.4}  {} ({:+.3} %)", b.name(), 100.0 * (of_b / of_a - 1.0));
    let _ =
        writeln!(text, "KL divergence  mean {mean:.3e}, median {median:.3e}, 99 % {p99:.3e}, largest {max:.3e} nats");
    let _ = writeln!(text, "same top token {same_top:.2} % of {n}");
    let _ = writeln!(text, "\nrelative error of weights, over the layers   mean      largest   types in B");
    for (kind, errors) in by_kind(weights) {
        let finite = errors.iter().map(|(_, error)| error.relative).filter(|error| error.is_finite());
        let mean = finite.clone().sum::<f64>() / finite.clone().count().max(1) as f64;
        let largest = finite.fold(0.0, f64::max);
        if errors.iter().all(|(_, error)| error.relative == 0.0) {
            continue;
        }
        let mut types: Vec<&str> = errors.iter().map(|(_, error)| error.dtype_b.name()).collect();
        types.sort_unstable();
        types.dedup();
        let _ = writeln!(text, "  {kind:<42} {mean:.2e}  {largest:.2e}  {}", types.join(", "));
    }
    let n_equal = weights.errors.iter().filter(|error| error.relative == 0.0).count();
    let _ = writeln!(text, "  {n_equal} of {} weights are equal", weights.errors.len());
    if !weights.unmatched.is_empty() {
        let _ = writeln!(text, "  not compared: {}", weights.unmatched.join(", "));
    }
    text
}

/// Errors by the name of the weight without its layer, with the number of the layer, 0 outside of the layers.
fn by_kind(weights: &WeightErrors) -> BTreeMap<&str, Vec<(usize, &WeightError)>> {
    let mut kinds: BTreeMap<&str, Vec<(usize, &WeightError)>> = BTreeMap::new();
    for error in &weights.errors {
        let in_layer = error.name.strip_prefix("blocks.").and_then(|name| name.split_once('.'));
        let (layer, kind) = match in_layer.and_then(|(layer, kind)| Some((layer.parse().ok()?, kind))) {
            Some(in_layer) => in_layer,
            None => (0, &error.name[..]),
        };
        kinds.entry(kind).or_default().push((layer, error));
    }
    kinds
}

/// The errors of matrices by layer.
fn chart(a: &Model, b: &Model, weights: &WeightErrors) -> Chart {
    let matrices = by_kind(weights)
        .into_iter()
        .filter(|(_, errors)| errors.iter().any(|(_, error)| error.shape[0] > 1 && error.relative > 0.0));
    let series = matrices.map(|(kind, errors)| Series {
        name: kind.into(),
        points: errors.iter().map(|(layer, error)| (*layer, error.relative)).collect(),
    });
    let name = |model: &Model| {
        let name = Path::new(model.name()).file_name();
        name.map_or_else(|| model.name().to_owned(), |name| name.to_string_lossy().into_owned())
    };
    Chart {
        title: format!("{} beside {}", name(b), name(a)),
        x_title: "layer",
        y_title: "relative error of the weights",
        series: series.collect(),
    }
}
