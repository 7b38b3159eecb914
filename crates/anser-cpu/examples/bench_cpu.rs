//! Times a model on this machine's processor: `bench_cpu MODEL.gguf [--threads N] [--repeat N] [--thread-time] [--only ROW] [--exact] [--profile]`.
//!
//! Prints one line of JSON: load, prompts of 32, 128 and 512 tokens, greedy decoding, 8 sequences decoding together,
//! embeddings of one text of 212 tokens and of six of 32, the first token of a short prompt, and anonymous memory.
//! `--thread-time` measures what one thread ran rather than the clock on the wall. Times are medians of `--repeat` runs after one that warms up, best beside them: [median, best].

use anser_cpu::{Cpu, Mode, Options, SlotId};
use anser_format::ModelFile;
use anser_model::{Plan, Sequence, Step};
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

/// Distinct, spread ids below `n_vocab`; the same as the peer's benchmark uses.
fn prompt(n: usize, shift: usize, n_vocab: usize) -> Vec<u32> {
    (0..n).map(|i| (((i + shift) * 7919 + 13) % 60_000 % n_vocab) as u32).collect()
}

struct Bench {
    cpu: Cpu,
    plan: Arc<Plan>,
    n_repeats: usize,
    clock: Clock,
}

/// What is measured.
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

impl Bench {
    /// Logits (or, if `hidden`, the vector before the head) of the last token of every sequence.
    fn step(&mut self, sequences: &[(SlotId, Vec<u32>)], hidden: bool) -> Vec<f32> {
        let tokens: Vec<u32> = sequences.iter().flat_map(|(_, tokens)| tokens).copied().collect();
        let table: Vec<_> = sequences.iter().map(|(slot, t)| Sequence { slot: *slot, n_tokens: t.len() }).collect();
        let mut end = 0;
        let last = |(_, t): &(SlotId, Vec<u32>)| {
            end += t.len() as u32;
            end - 1
        };
        let outputs: Vec<u32> = sequences.iter().map(last).collect();
        let reads: Vec<_> = if hidden { self.plan.hidden } else { self.plan.logits }.into_iter().collect();
        let step = Step { tokens: &tokens, sequences: &table, outputs: &outputs, reads: &reads, inputs: &[] };
        self.cpu.step(&step).map(|mut values| values.swap_remove(0)).unwrap_or_default()
    }

    /// [median, best] milliseconds.
    fn time(&mut self, mut run: impl FnMut(&mut Bench)) -> [f64; 2] {
        run(self);
        let mut times: Vec<f64> = (0..self.n_repeats)
            .map(|_| {
                let start = self.clock.ms();
                run(self);
                self.clock.ms() - start
            })
            .collect();
        times.sort_by(f64::total_cmp);
        [times[times.len() / 2], times[0]]
    }

    fn prefill(&mut self, n_tokens: usize) -> [f64; 2] {
        let tokens = prompt(n_tokens, 0, self.plan.n_vocab);
        let ms = self.time(|bench| {
            let slot = bench.cpu.create_state();
            bench.step(&[(slot, tokens.clone())], false);
            bench.cpu.drop_state(slot);
        });
        ms.map(|ms| n_tokens as f64 / ms * 1e3)
    }

    /// Tokens per second of all sequences together.
    fn decode(&mut self, n_sequences: usize) -> [f64; 2] {
        let n_tokens = 24;
        let n_vocab = self.plan.n_vocab;
        let slots: Vec<_> = (0..n_sequences).map(|_| self.cpu.create_state()).collect();
        let prompts: Vec<_> = slots.iter().enumerate().map(|(i, &s)| (s, prompt(32, i, n_vocab))).collect();
        self.step(&prompts, false);
        let mut next: Vec<_> = slots.iter().map(|&slot| (slot, vec![100])).collect();
        let ms = self.time(|bench| {
            for _ in 0..n_tokens {
                let logits = bench.step(&next, false);
                for ((_, token), logits) in next.iter_mut().zip(logits.chunks(n_vocab)) {
                    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
                    *token = vec![best.map_or(0, |(i, _)| i as u32)];
                }
            }
        });
        slots.into_iter().for_each(|slot| self.cpu.drop_state(slot));
        ms.map(|ms| (n_sequences * n_tokens) as f64 / ms * 1e3)
    }

    /// Milliseconds for the last hidden vectors of some texts in one step.
    fn embed(&mut self, n_texts: usize, n_tokens: usize) -> [f64; 2] {
        let n_vocab = self.plan.n_vocab;
        self.time(|bench| {
            let texts: Vec<_> =
                (0..n_texts).map(|i| (bench.cpu.create_state(), prompt(n_tokens, i, n_vocab))).collect();
            bench.step(&texts, true);
            texts.iter().for_each(|(slot, _)| bench.cpu.drop_state(*slot));
        })
    }
}

/// A line of /proc/self/status in MiB; nothing where there is none.
fn status_mib(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name)).and_then(|l| l.split_whitespace().nth(1));
    line.and_then(|kib| kib.parse::<f64>().ok()).map_or(0.0, |kib| kib / 1024.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut path, mut n_threads, mut n_repeats, mut mode, mut profile) = (None, None, 5, Mode::Fast, false);
    let (mut clock, mut only) = (Clock::Wall(Instant::now()), None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match &arg[..] {
            "--threads" => n_threads = Some(args.next().ok_or("--threads N")?.parse()?),
            "--repeat" => n_repeats = args.next().ok_or("--repeat N")?.parse::<usize>()?.max(1),
            "--thread-time" => (n_threads, clock) = (Some(1), Clock::Thread),
            "--only" => only = args.next(),
            "--exact" => mode = Mode::Exact,
            "--profile" => profile = true,
            _ => path = Some(arg),
        }
    }
    let path = path
        .ok_or("bench_cpu MODEL.gguf [--threads N] [--repeat N] [--thread-time] [--only ROW] [--exact] [--profile]")?;

    let start = Instant::now();
    let file = ModelFile::open(&path)?;
    let plan = Arc::new(anser_model::load(&file)?.1);
    let cpu = Cpu::new(plan.clone(), Options { n_threads, mode, profile })?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let mut bench = Bench { cpu, plan, n_repeats, clock };
    let slot = bench.cpu.create_state();
    let tokens = prompt(32, 0, bench.plan.n_vocab);
    let start = Instant::now();
    bench.step(&[(slot, tokens)], false);
    let first_token_ms = start.elapsed().as_secs_f64() * 1e3;
    bench.cpu.drop_state(slot);

    let mut report = serde_json::json!({
        "file": path, "threads": bench.cpu.n_threads(), "instructions": Cpu::instructions(), "mode": format!("{mode:?}"),
        "load_ms": load_ms, "first_token_32_ms": first_token_ms,
    });
    let print_profile = |name: &str, bench: &mut Bench| {
        for (kind, time) in bench.cpu.take_profile() {
            println!("{name:>12}  {kind:<16} {:>9.3} ms", time.as_secs_f64() * 1e3);
        }
    };
    type Row = (String, fn(&mut Bench, usize) -> [f64; 2], usize);
    let mut rows: Vec<Row> = vec![];
    rows.extend([1, 8, 32, 128, 512].map(|n| (format!("pp{n}"), Bench::prefill as _, n)));
    rows.extend([1, 2, 4, 8].map(|n| (format!("tg{n}"), Bench::decode as _, n)));
    rows.push(("embed_212_ms".into(), |bench, n| bench.embed(1, n), 212));
    rows.push(("embed_6x32_ms".into(), |bench, n| bench.embed(6, n), 32));
    for (name, run, n) in rows {
        if only.as_ref().is_none_or(|only| *only == name) {
            bench.cpu.take_profile();
            report[&name] = serde_json::json!(run(&mut bench, n));
            print_profile(&name, &mut bench);
        }
    }
    report["anonymous_mib"] = serde_json::json!(status_mib("RssAnon"));
    println!("{report}");
    Ok(())
}
