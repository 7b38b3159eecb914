//! Times steps of many tokens: prompts, texts to embed, and batches of sequences.
//!
//! `step_bench MODEL [--device WISH] [--profile] [SEQUENCESxTOKENS…]`
//!
//! Each line gives the first run of a kind of steps (kernels are compiled, memory is allocated), the median of the others,
//! and the normalised squared difference of the last tokens' logits from those of a run without fusion and f16.

use anser_format::ModelFile;
use anser_gpu::{Device, DeviceChoice, Gpu, GpuOptions};
use anser_model::{Plan, Sequence, Step};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

const KINDS: [[usize; 2]; 10] =
    [[1, 32], [1, 512], [1, 1024], [1, 2048], [1, 212], [6, 32], [64, 1], [16, 1], [32, 1], [1, 128]];
const N_RUNS: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which model?")?;
    let (mut choice, mut profiles, mut kinds) = (DeviceChoice::Auto, false, vec![]);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--device" => choice = arguments.next().ok_or("--device needs a value")?.parse()?,
            "--profile" => profiles = true,
            kind => {
                let (sequences, tokens) = kind.split_once('x').ok_or("a kind is SEQUENCESxTOKENS")?;
                kinds.push([sequences.parse()?, tokens.parse()?]);
            }
        }
    }
    let kinds = if kinds.is_empty() { KINDS.to_vec() } else { kinds };
    let file = Arc::new(ModelFile::open(&path)?);
    let plan = Arc::new(anser_model::load(&file)?.1);
    let device = Device::open(&choice)?;
    println!("{path}: {}; {}", plan.title, device.reason());
    let mut gpu = Gpu::new(plan.clone(), &device, GpuOptions::default())?;
    let mut plain =
        Gpu::new(plan.clone(), &device, GpuOptions { no_fusion: true, no_coop_matrix: true, ..GpuOptions::default() })?;
    println!("sequences × tokens | first ms | median ms | tokens/s | NMSE of logits");
    for [n_sequences, n_tokens] in kinds {
        let run = |gpu: &mut Gpu, n_runs| step(gpu, &plan, [n_sequences, n_tokens], n_runs);
        let (mut times, logits) = run(&mut gpu, N_RUNS)?;
        let (_, reference) = run(&mut plain, 1)?;
        let first_ms = times.remove(0);
        times.sort_by(f64::total_cmp);
        let median_ms = times[times.len() / 2];
        let per_s = (n_sequences * n_tokens) as f64 / median_ms * 1e3;
        let nmse = nmse(&logits, &reference);
        println!("{n_sequences:9} × {n_tokens:<6} | {first_ms:8.2} | {median_ms:9.2} | {per_s:8.0} | {nmse:.1e}");
        if profiles {
            profile(&mut gpu, &plan, [n_sequences, n_tokens])?;
        }
    }
    Ok(())
}

/// Runs a kind of steps `n_runs` times, each from fresh states, and returns the times in ms and the last logits.
fn step(
    gpu: &mut Gpu,
    plan: &Plan,
    [n_sequences, n_tokens]: [usize; 2],
    n_runs: usize,
) -> Result<(Vec<f64>, Vec<f32>), Box<dyn Error>> {
    let (mut times, mut logits) = (vec![], vec![]);
    let tokens: Vec<u32> = (0..n_sequences * n_tokens).map(|i| (i * 7 % 1000) as u32 + 1).collect();
    let reads: Vec<_> = plan.logits.into_iter().collect();
    for _ in 0..n_runs {
        let slots = (0..n_sequences).map(|_| gpu.create_state()).collect::<Result<Vec<_>, _>>()?;
        let sequences: Vec<_> = slots.iter().map(|&slot| Sequence { slot, n_tokens }).collect();
        // Batches of one token each want all logits, prompts the last one's.
        let outputs: Vec<u32> = (1..=n_sequences).map(|i| (i * n_tokens - 1) as u32).collect();
        let step = Step { tokens: &tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
        let began = Instant::now();
        logits = gpu.step(&step)?.swap_remove(0);
        times.push(began.elapsed().as_secs_f64() * 1e3);
        slots.into_iter().for_each(|slot| gpu.drop_state(slot));
    }
    Ok((times, logits))
}

/// Prints the kernels of a step with their time.
fn profile(gpu: &mut Gpu, plan: &Plan, [n_sequences, n_tokens]: [usize; 2]) -> Result<(), Box<dyn Error>> {
    let tokens = vec![1; n_sequences * n_tokens];
    let slots = (0..n_sequences).map(|_| gpu.create_state()).collect::<Result<Vec<_>, _>>()?;
    let sequences: Vec<_> = slots.iter().map(|&slot| Sequence { slot, n_tokens }).collect();
    let outputs: Vec<u32> = (1..=n_sequences).map(|i| (i * n_tokens - 1) as u32).collect();
    let reads: Vec<_> = plan.logits.into_iter().collect();
    let step = Step { tokens: &tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
    let mut kernels: BTreeMap<(&str, String), (usize, f64, f64)> = BTreeMap::new();
    for time in gpu.profile(&step)? {
        // Of `blocks.3.att.r`, what is the same in all layers.
        let names = time.node.split(" + ").map(|name| name.splitn(3, '.').last().unwrap_or_default());
        let entry = kernels.entry((time.label, names.collect::<Vec<_>>().join("+"))).or_default();
        *entry = (entry.0 + 1, entry.1 + time.elapsed_us, entry.2 + time.n_bytes as f64);
    }
    slots.into_iter().for_each(|slot| gpu.drop_state(slot));
    let mut kernels: Vec<_> = kernels.into_iter().collect();
    kernels.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    let total: f64 = kernels.iter().map(|(_, (_, us, _))| us).sum();
    println!("    {:9.0} µs in all", total);
    for ((label, name), (n, us, n_bytes)) in kernels.into_iter().take(24) {
        println!("    {us:9.0} µs {n:4} × {label} {name}, {:.0} GB/s", n_bytes / us / 1e3);
    }
    Ok(())
}

fn nmse(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let error: f64 = a.iter().zip(b).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    error / b.iter().map(|&b| square(f64::from(b))).sum::<f64>()
}
