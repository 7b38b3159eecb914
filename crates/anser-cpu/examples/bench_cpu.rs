//! Times a model on this machine's processor:
//! `bench_cpu MODEL.gguf [--threads N] [--first N] [--repeat N] [--only ROW] [--serve] [--thread-time] [--exact] [--profile]`.
//!
//! Prints one line of JSON: load, the first token after a prompt of `--first` tokens, and the rows: prompts (`pp512`),
//! greedy decoding (`tg1`), several sequences decoding together (`tg8`), embeddings of texts (`embed_6x32`); milliseconds,
//! [median, best] of `--repeat` runs after one that warms up. `--thread-time` measures what one thread ran rather than
//! the clock on the wall.
//!
//! With `--serve` it prints load and first token, then reads names of rows, a line each, runs each once and prints a line
//! of JSON for it: so `scripts/bench-cpu` can take turns with another engine. `check` gives the most likely token after
//! every token of a prompt and the number of logits that are not finite, `memory` the anonymous memory.

use anser_cpu::{Cpu, Mode, Options, SlotId};
use anser_format::ModelFile;
use anser_model::{Plan, Sequence, Step};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Instant;

const USAGE: &str = "bench_cpu MODEL.gguf [--threads N] [--first N] [--repeat N] [--only ROW] [--serve] [--thread-time] \
                     [--exact] [--profile]";
const ROWS: &[&str] =
    &["pp1", "pp8", "pp32", "pp128", "pp512", "tg1", "tg2", "tg4", "tg8", "embed_1x212", "embed_6x32"];
/// The most tokens of a step of a long prompt.
const STEP_LEN: usize = 128;
/// The number of tokens that a sequence decodes.
const N_DECODED: usize = 24;

/// Distinct, spread ids below `n_vocab`; the same as the peer's benchmark uses.
fn prompt(n: usize, shift: usize, n_vocab: usize) -> Vec<u32> {
    (0..n).map(|i| (((i + shift) * 7919 + 13) % 60_000 % n_vocab) as u32).collect()
}

/// The index of the largest logit.
fn best(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |b, (i, &x)| if x > b.1 { (i, x) } else { b });
    best.0 as u32
}

/// The clock that measures.
#[derive(Clone, Copy)]
enum Clock {
    Wall(Instant),
    /// Nanoseconds that the calling thread ran, by Linux: steady on a busy machine, and all there is with one thread.
    Thread,
}

impl Clock {
    fn ms(self) -> f64 {
        match self {
            Clock::Wall(start) => start.elapsed().as_secs_f64() * 1e3,
            Clock::Thread => {
                let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
                schedstat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(f64::NAN) * 1e-6
            }
        }
    }
}

struct Bench {
    cpu: Cpu,
    plan: Arc<Plan>,
    clock: Clock,
}

impl Bench {
    /// Logits (or, if `hidden`, the vector before the head) of every token of the last sequence, or of the last token of
    /// every sequence.
    fn step(&mut self, sequences: &[(SlotId, Vec<u32>)], hidden: bool, every: bool) -> Vec<f32> {
        let tokens: Vec<u32> = sequences.iter().flat_map(|(_, tokens)| tokens).copied().collect();
        let table: Vec<_> = sequences.iter().map(|(slot, t)| Sequence { slot: *slot, n_tokens: t.len() }).collect();
        let mut end = 0;
        let last = |(_, t): &(SlotId, Vec<u32>)| {
            end += t.len() as u32;
            end - 1
        };
        let outputs =
            if every { (0..tokens.len() as u32).collect() } else { sequences.iter().map(last).collect::<Vec<_>>() };
        let reads: Vec<_> = if hidden { self.plan.hidden } else { self.plan.logits }.into_iter().collect();
        let step = Step { tokens: &tokens, sequences: &table, outputs: &outputs, reads: &reads, inputs: &[] };
        self.cpu.step(&step).map(|mut values| values.swap_remove(0)).unwrap_or_default()
    }

    /// Runs a row once and returns its time in milliseconds.
    fn run(&mut self, row: &str) -> Result<f64, Box<dyn Error>> {
        let n_vocab = self.plan.n_vocab;
        let unknown = || format!("no row {row}; there are {ROWS:?}");
        let (n_texts, n_tokens, decode, hidden) = if let Some(n) = row.strip_prefix("pp") {
            (1, n.parse()?, false, false)
        } else if let Some(n) = row.strip_prefix("tg") {
            (n.parse()?, 32, true, false)
        } else {
            let (texts, tokens) = row.strip_prefix("embed_").and_then(|n| n.split_once('x')).ok_or_else(unknown)?;
            (texts.parse()?, tokens.parse()?, false, true)
        };
        let slots: Vec<_> = (0..n_texts).map(|_| self.cpu.create_state()).collect();
        let texts: Vec<_> = slots.iter().enumerate().map(|(i, &s)| (s, prompt(n_tokens, i, n_vocab))).collect();
        let mut start = self.clock.ms();
        match &texts[..] {
            // A long prompt in pieces, as the library reads it.
            [(slot, tokens)] if !hidden => {
                for piece in tokens.chunks(STEP_LEN) {
                    self.step(&[(*slot, piece.to_vec())], hidden, false);
                }
            }
            texts => {
                self.step(texts, hidden, false);
            }
        }
        if decode {
            let mut next: Vec<_> = slots.iter().enumerate().map(|(i, &slot)| (slot, vec![100 + i as u32])).collect();
            start = self.clock.ms();
            for _ in 0..N_DECODED {
                let logits = self.step(&next, false, false);
                for ((_, token), logits) in next.iter_mut().zip(logits.chunks(n_vocab)) {
                    token[0] = best(logits);
                }
            }
        }
        let ms = self.clock.ms() - start;
        slots.into_iter().for_each(|slot| self.cpu.drop_state(slot));
        Ok(ms)
    }

    /// The most likely token after every token of a prompt, and the number of logits that are not finite.
    fn check(&mut self) -> Value {
        let slot = self.cpu.create_state();
        let (tokens, n_vocab) = (prompt(48, 0, self.plan.n_vocab), self.plan.n_vocab);
        let logits = self.step(&[(slot, tokens)], false, true);
        self.cpu.drop_state(slot);
        let n_bad = logits.iter().filter(|x| !x.is_finite()).count();
        json!({"best": logits.chunks(n_vocab).map(best).collect::<Vec<_>>(), "not_finite": n_bad})
    }
}

/// The figure of a line of /proc/self/status in MiB; 0 where there is no such line.
fn status_mib(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name)).and_then(|l| l.split_whitespace().nth(1));
    line.and_then(|kib| kib.parse::<f64>().ok()).map_or(0.0, |kib| kib / 1024.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut path, mut n_threads, mut n_repeats, mut mode, mut profile) = (None, None, 5, Mode::Fast, false);
    let (mut clock, mut only, mut serve, mut n_first) = (Clock::Wall(Instant::now()), None, false, 32);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match &arg[..] {
            "--threads" => n_threads = Some(args.next().ok_or("--threads N")?.parse()?),
            "--first" => n_first = args.next().ok_or("--first N")?.parse()?,
            "--repeat" => n_repeats = args.next().ok_or("--repeat N")?.parse::<usize>()?.max(1),
            "--only" => only = args.next(),
            "--serve" => serve = true,
            "--thread-time" => (n_threads, clock) = (Some(1), Clock::Thread),
            "--exact" => mode = Mode::Exact,
            "--profile" => profile = true,
            _ => path = Some(arg),
        }
    }
    let path = path.ok_or(USAGE)?;

    let start = Instant::now();
    let file = ModelFile::open(&path)?;
    let plan = Arc::new(anser_model::load(&file)?.1);
    let cpu = Cpu::new(plan.clone(), Options { n_threads, mode, profile })?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let mut bench = Bench { cpu, plan, clock };
    let slot = bench.cpu.create_state();
    let tokens = prompt(n_first, 0, bench.plan.n_vocab);
    let start = Instant::now();
    best(&bench.step(&[(slot, tokens)], false, false));
    let first_token_ms = start.elapsed().as_secs_f64() * 1e3;
    bench.cpu.drop_state(slot);

    let mut report = json!({
        "file": path, "threads": bench.cpu.n_threads(), "instructions": Cpu::instructions(), "mode": format!("{mode:?}"),
        "load_ms": load_ms, "first_token_ms": first_token_ms,
    });
    if serve {
        println!("{report}");
        for row in std::io::stdin().lock().lines() {
            match &row?[..] {
                "check" => println!("{}", bench.check()),
                "memory" => println!("{}", json!(status_mib("RssAnon"))),
                row => println!("{}", json!(bench.run(row)?)),
            }
            std::io::stdout().flush()?;
        }
        return Ok(());
    }
    for &row in ROWS.iter().filter(|row| only.as_deref().is_none_or(|only| only == **row)) {
        bench.run(row)?;
        bench.cpu.take_profile();
        let times: Result<Vec<f64>, _> = (0..n_repeats).map(|_| bench.run(row)).collect();
        let mut times = times?;
        times.sort_by(f64::total_cmp);
        report[row] = json!([times[times.len() / 2], times[0]]);
        for (kind, time) in bench.cpu.take_profile() {
            println!("{row:>12}  {kind:<16} {:>9.3} ms", time.as_secs_f64() * 1e3 / n_repeats as f64);
        }
    }
    report["anonymous_mib"] = json!(status_mib("RssAnon"));
    println!("{report}");
    Ok(())
}
