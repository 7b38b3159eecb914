//! `anser bench engine`: clients that each wait for an answer before they ask again.

use super::figures::Spread;
use super::origin::Origin;
use super::prompt;
use crate::args::BenchEngineArgs;
use crate::output::Output;
use crate::printable::printable;
use crate::report::Failure;
use crate::term::Progress;
use anser::{GenerateOptions, Model, SamplerOptions};
use anser_engine::{Engine, Event, Limits, Request, channel};
use serde::{Serialize, Serializer};
use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant, SystemTime};

/// The JSON object that `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    title: String,
    device: String,
    #[serde(flatten)]
    origin: Origin,
    n_prompt: usize,
    n_gen: usize,
    n_runs: usize,
    n_requests: usize,
    #[serde(flatten, serialize_with = "as_map")]
    figures: Vec<(String, Spread)>,
}

fn as_map<S: Serializer>(figures: &[(String, Spread)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(figures.iter().map(|(name, spread)| (name, spread)))
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({}) on {}", self.model, self.title, self.device)?;
        let Report { n_prompt, n_gen, n_runs, n_requests, .. } = self;
        writeln!(f, "prompt {n_prompt}, generate {n_gen}, {n_requests} requests of each client, runs {n_runs}")?;
        writeln!(f, "anser {}, commit {}\n", self.origin.version, self.origin.commit)?;
        writeln!(f, "{:<30} {:>10} {:>10} {:>10}", "", "median", "min", "max")?;
        self.figures.iter().try_for_each(|(name, spread)| {
            let (median, min, max) = spread.figures();
            writeln!(f, "{name:<30} {median:>10.2} {min:>10.2} {max:>10.2}")
        })
    }
}

/// What a client has seen.
#[derive(Default)]
struct Seen {
    n_tokens: usize,
    /// Seconds from sending each request to its first token.
    first_s: Vec<f64>,
    /// Seconds between consecutive tokens of a text.
    between_s: Vec<f64>,
}

/// The figures of a run with some number of clients.
struct Figures {
    tps: f64,
    first_ms: [f64; 2],
    between_ms: [f64; 2],
}

pub(super) fn run(args: &BenchEngineArgs) -> Result<(), Failure> {
    let began_at = SystemTime::now();
    let gpu = anser::keep_open(&args.model.options()?)?;
    let model = args.model.load()?;
    model.finish_loading()?;
    let most = args.clients.iter().copied().max().unwrap_or(1);
    let limits = Limits {
        max_rows: Some(most),
        max_waiting: Some(most),
        max_waiting_per_tenant: most,
        max_wait: Duration::MAX,
        ..Limits::default()
    };
    let engine = Engine::start(model.clone(), limits);
    let mut progress = Progress::new("measuring");
    let mut figures = vec![];
    for (i, &n_clients) in args.clients.iter().enumerate() {
        // The first requests compile the kernels and allocate the memory for this number of sequences.
        measure(&engine, &model, args, n_clients, 1)?;
        let mut runs = vec![];
        for run in 0..args.runs {
            progress.update(i * args.runs + run, args.clients.len() * args.runs);
            runs.push(measure(&engine, &model, args, n_clients, args.requests)?);
        }
        let mut add = |name: &str, of: &dyn Fn(&Figures) -> f64| {
            let spread = Spread::of(runs.iter().map(of).collect());
            figures.push((format!("clients_{n_clients}_{name}"), spread));
        };
        add("tps", &|run| run.tps);
        for (at, percent) in ["p50", "p99"].into_iter().enumerate() {
            add(&format!("first_token_{percent}_ms"), &|run| run.first_ms[at]);
        }
        for (at, percent) in ["p50", "p99"].into_iter().enumerate().filter(|_| args.r#gen > 1) {
            add(&format!("between_{percent}_ms"), &|run| run.between_ms[at]);
        }
    }
    drop(progress);
    let runs_on_gpu = model.gpu_memory()?.is_some();
    let report = Report {
        model: printable(&args.model.model.display().to_string()),
        title: model.plan().title.clone(),
        device: model.device().to_owned(),
        origin: Origin::of(&model, gpu.as_deref().filter(|_| runs_on_gpu), began_at),
        n_prompt: args.prompt,
        n_gen: args.r#gen,
        n_runs: args.runs,
        n_requests: args.requests,
        figures,
    };
    let mut output = Output::new();
    if args.json { output.write_json(&report) } else { output.write(report.to_string()) }
}

/// Serves `n_clients` clients with `n_requests` requests each.
fn measure(
    engine: &Engine,
    model: &Model,
    args: &BenchEngineArgs,
    n_clients: usize,
    n_requests: usize,
) -> Result<Figures, Failure> {
    let text = prompt(model, args.prompt + n_clients)?;
    let began = Instant::now();
    let seen = std::thread::scope(|scope| {
        let client = |i: usize| {
            let prompt = &text[i..i + args.prompt];
            scope.spawn(move || ask(engine, prompt, args.r#gen, n_requests))
        };
        let clients: Vec<_> = (0..n_clients).map(client).collect();
        let joined = clients.into_iter().map(|client| match client.join() {
            Ok(seen) => seen,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect::<Result<Vec<Seen>, Failure>>()
    })?;
    let elapsed = began.elapsed().as_secs_f64();
    let n_tokens: usize = seen.iter().map(|seen| seen.n_tokens).sum();
    let all = |of: fn(&Seen) -> &[f64]| percentiles(seen.iter().flat_map(|seen| of(seen).iter().copied()).collect());
    Ok(Figures {
        tps: n_tokens as f64 / elapsed,
        first_ms: all(|seen| &seen.first_s),
        between_ms: all(|seen| &seen.between_s),
    })
}

/// A client: sends a request, waits for its end, sends the next.
fn ask(engine: &Engine, prompt: &[u32], n_tokens: usize, n_requests: usize) -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    for _ in 0..n_requests {
        let options = GenerateOptions {
            sampler: SamplerOptions::greedy(),
            max_tokens: n_tokens,
            stop_tokens: vec![],
            ..GenerateOptions::default()
        };
        let (on_event, events) = channel(256);
        let sent = Instant::now();
        let ticket = engine.submit(Request::generate(prompt.to_vec(), options), on_event);
        let _ticket = ticket.map_err(|refusal| Failure::Run(refusal.to_string()))?;
        let mut last: Option<Instant> = None;
        for event in events {
            match event {
                Event::Token { .. } => {
                    let now = Instant::now();
                    match last.replace(now) {
                        None => seen.first_s.push((now - sent).as_secs_f64()),
                        Some(before) => seen.between_s.push((now - before).as_secs_f64()),
                    }
                    seen.n_tokens += 1;
                }
                Event::Failed(failure) => return Err(Failure::Run(failure.to_string())),
                Event::Started { .. }
                | Event::Text { .. }
                | Event::Ended { .. }
                | Event::Scored(_)
                | Event::Embedding(_)
                | Event::State(_)
                | Event::Done(_) => {}
            }
        }
    }
    Ok(seen)
}

/// The 50th and the 99th percentile of seconds, in milliseconds: 50 and 99 of 100 values are no greater. NaN if there are none.
fn percentiles(mut seconds: Vec<f64>) -> [f64; 2] {
    seconds.sort_by(f64::total_cmp);
    [50, 99].map(|percent| {
        let at = (seconds.len() * percent).div_ceil(100).saturating_sub(1);
        1e3 * seconds.get(at).copied().unwrap_or(f64::NAN)
    })
}

#[cfg(test)]
mod tests {
    use super::percentiles;

    #[test]
    fn percentiles_are_values_that_so_many_do_not_exceed() {
        assert_eq!(percentiles((1..=100).map(f64::from).rev().collect()), [50e3, 99e3]);
        assert_eq!(percentiles(vec![0.002, 0.001]), [1.0, 2.0]);
        assert_eq!(percentiles(vec![0.5]), [500.0, 500.0]);
        assert!(percentiles(vec![])[0].is_nan());
    }
}
