//! Times how a model gets to a GPU: `load_bench FILE [--device WISH] [--runs N] [--memory MIB]`
//!
//! The rate of the link to the device alone, that of weights that go over it, how long loading takes once the device is
//! open, and what a token takes; with `--memory`, when all weights beyond that many MiB are streamed for each.

use anser_format::ModelFile;
use anser_gpu::upload_bench::{Filling, rate};
use anser_gpu::{Device, DeviceChoice, Gpu, GpuError, GpuOptions};
use anser_model::{Plan, Sequence, Step};
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

struct Arguments {
    path: String,
    device: DeviceChoice,
    n_runs: usize,
    memory: Option<u64>,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which file?")?;
    let mut parsed = Arguments { path, device: DeviceChoice::Auto, n_runs: 5, memory: None };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(format!("{name} needs a value"))?;
        match &name[..] {
            "--device" => parsed.device = value.parse()?,
            "--runs" => parsed.n_runs = value.parse()?,
            "--memory" => parsed.memory = Some(value.parse::<u64>()? << 20),
            _ => return Err(format!("unknown argument {name}").into()),
        }
    }
    Ok(parsed)
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { path, device, n_runs, memory } = arguments()?;
    let began = Instant::now();
    let device = Device::open(&device)?;
    let open_ms = ms(began);
    let began = Instant::now();
    let plan = Arc::new(anser_model::load(&ModelFile::open(&path)?)?.1);
    println!("{}: opened in {open_ms:.1} ms; file checked in {:.1} ms", device.reason(), ms(began));

    for n_threads in [1, 2, 4, 8, 12, 16] {
        let median = |filling| {
            let rates = (0..n_runs).map(|_| rate(&plan, &device, filling, n_threads));
            rates.collect::<Result<Vec<f64>, GpuError>>().map(median_of)
        };
        let [link, weights] = [median(Filling::Memory)?, median(Filling::Weights)?];
        println!("{n_threads:>2} threads: link {link:.1} GB/s, weights over it {weights:.1} GB/s");
    }

    let options = GpuOptions { memory, ..GpuOptions::default() };
    let (mut returned, mut resident, mut first, mut token) = (vec![], vec![], vec![], vec![]);
    for _ in 0..n_runs {
        let began = Instant::now();
        let gpu = Gpu::new(plan.clone(), &device, options)?;
        returned.push(ms(began));
        gpu.wait_until_resident()?;
        resident.push(ms(began));
        drop(gpu);
        // Another time, with a prompt that does not wait.
        let began = Instant::now();
        let mut gpu = Gpu::new(plan.clone(), &device, options)?;
        let slot = gpu.create_state()?;
        step(&mut gpu, &plan, slot, 32)?;
        first.push(ms(began));
        step(&mut gpu, &plan, slot, 1)?;
        let began = Instant::now();
        for _ in 0..N_TOKENS {
            step(&mut gpu, &plan, slot, 1)?;
        }
        token.push(ms(began) / f64::from(N_TOKENS));
    }
    let total = Gpu::n_bytes_needed(&plan, &device, GpuOptions::default())? as f64 / 1e9;
    println!(
        "{total:.3} GB of weights and state: load {:.1} ms, resident {:.1} ms, first token of 32 {:.1} ms, token {:.2} ms",
        median_of(returned),
        median_of(resident),
        median_of(first),
        median_of(token)
    );
    Ok(())
}

/// Tokens that are decoded one by one.
const N_TOKENS: u32 = 20;

fn step(gpu: &mut Gpu, plan: &Plan, slot: usize, n_tokens: usize) -> Result<(), Box<dyn Error>> {
    let tokens: Vec<u32> = (1..=n_tokens as u32).collect();
    let (sequences, outputs) = ([Sequence { slot, n_tokens }], [n_tokens as u32 - 1]);
    let reads = [plan.logits.ok_or("the model has no head")?];
    gpu.step(&Step { tokens: &tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] })?;
    Ok(())
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn median_of(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
