//! Clients that each send a request, wait for the whole answer, and send the next: what they see, and the report.

use super::figures::Spread;
use super::origin::Origin;
use crate::args::{ClientArgs, ModelArgs};
use crate::output::Output;
use crate::printable::printable;
use crate::report::Failure;
use crate::term::Progress;
use anser::{GpuDevice, Model};
use serde::{Serialize, Serializer};
use std::fmt::{self, Display, Formatter};
use std::time::{Instant, SystemTime};

/// The JSON object that `--json` prints.
#[derive(Serialize)]
pub(super) struct Report {
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

impl Report {
    /// The report of `figures`, measured with `model`, which `model_args` named, on `device`; `gpu` is the one that is open, if any is.
    pub(super) fn of(
        args: &ClientArgs,
        model_args: &ModelArgs,
        model: &Model,
        device: String,
        gpu: Option<&GpuDevice>,
        began_at: SystemTime,
        figures: Vec<(String, Spread)>,
    ) -> Result<Report, Failure> {
        let runs_on_gpu = model.gpu_memory()?.is_some();
        Ok(Report {
            model: printable(&model_args.model.display().to_string()),
            title: model.plan().title.clone(),
            device,
            origin: Origin::of(model, gpu.filter(|_| runs_on_gpu), began_at),
            n_prompt: args.prompt,
            n_gen: args.r#gen,
            n_runs: args.runs,
            n_requests: args.requests,
            figures,
        })
    }

    pub(super) fn print(&self, as_json: bool) -> Result<(), Failure> {
        let mut output = Output::new();
        if as_json { output.write_json(self) } else { output.write(self.to_string()) }
    }
}

/// What a client has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) n_tokens: usize,
    /// Seconds from sending each request to its first token.
    pub(super) first_s: Vec<f64>,
    /// Seconds between consecutive tokens of a text.
    pub(super) between_s: Vec<f64>,
}

impl Seen {
    /// A part of an answer has arrived. `last` is when the one before did, if there was one; the request was sent at `sent`.
    pub(super) fn arrival(&mut self, sent: Instant, last: &mut Option<Instant>) {
        let now = Instant::now();
        match last.replace(now) {
            None => self.first_s.push((now - sent).as_secs_f64()),
            Some(before) => self.between_s.push((now - before).as_secs_f64()),
        }
    }
}

/// The figures of a run with some number of clients.
struct Figures {
    tps: f64,
    first_ms: [f64; 2],
    between_ms: [f64; 2],
}

/// The figures of all numbers of clients. `ask` sends the requests of one client; it is told
/// the client's number in its run and how many requests to send.
pub(super) fn measure_all(
    args: &ClientArgs,
    ask: &(impl Fn(usize, usize) -> Result<Seen, Failure> + Sync),
) -> Result<Vec<(String, Spread)>, Failure> {
    let mut progress = Progress::new("measuring");
    let mut figures = vec![];
    for (i, &n_clients) in args.clients.iter().enumerate() {
        // The first requests compile the kernels and allocate the memory for this number of sequences.
        measure(n_clients, &|client| ask(client, 1))?;
        let mut runs = vec![];
        for run in 0..args.runs {
            progress.update(i * args.runs + run, args.clients.len() * args.runs);
            runs.push(measure(n_clients, &|client| ask(client, args.requests))?);
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
    Ok(figures)
}

/// Lets `n_clients` clients ask at the same time.
fn measure(n_clients: usize, ask: &(impl Fn(usize) -> Result<Seen, Failure> + Sync)) -> Result<Figures, Failure> {
    let began = Instant::now();
    let seen = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..n_clients).map(|client| scope.spawn(move || ask(client))).collect();
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
