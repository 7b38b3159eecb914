//! The figures of a benchmark, as JSON and as a table.

use super::origin::Origin;
use anser::MemoryUse;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};

/// The figures of one run.
pub(super) struct Measured {
    pub(super) load_ms: f64,
    pub(super) resident_ms: f64,
    pub(super) first_token_ms: f64,
    pub(super) prefill_tps: f64,
    pub(super) decode_tps: f64,
    pub(super) generate_tps: Option<f64>,
    pub(super) sample_tps: Option<f64>,
    pub(super) embed_ms: f64,
    pub(super) embed_batch_ms: f64,
    pub(super) state_ms: f64,
    pub(super) batch_8_tps: f64,
    pub(super) batch_64_tps: f64,
    pub(super) generate_8_tps: Option<f64>,
    pub(super) generate_64_tps: Option<f64>,
    pub(super) memory: Option<MemoryUse>,
}

/// The memory of a GPU after one sequence's prompt and generation, in MiB.
#[derive(Serialize)]
pub(super) struct GpuMemory {
    /// The weights, with the embedding table of generations.
    gpu_weights_mib: f64,
    gpu_states_mib: f64,
    /// The memory that is neither weights nor states.
    gpu_scratch_mib: Option<f64>,
    /// The memory that the allocator took from the driver for all of these.
    gpu_reserved_mib: Option<f64>,
}

impl GpuMemory {
    pub(super) fn of(memory: &MemoryUse) -> GpuMemory {
        let mib = |n_bytes: u64| n_bytes as f64 / f64::from(1 << 20);
        GpuMemory {
            gpu_weights_mib: mib(memory.weights_n_bytes + memory.table_n_bytes),
            gpu_states_mib: mib(memory.states_n_bytes),
            gpu_scratch_mib: memory.scratch_n_bytes().map(mib),
            gpu_reserved_mib: memory.reserved_n_bytes.map(mib),
        }
    }
}

/// The rates that a GPU reaches at best, and the parts of them that the model reached.
#[derive(Serialize)]
pub(super) struct Reached {
    pub(super) copy_gb_per_s: f64,
    pub(super) gemm_tflop_per_s: f64,
    /// The bytes of weights and states that a token moves, times tokens per second, divided by the rate of a copy.
    pub(super) decode_of_copy: f64,
    /// The rate of multiplications and additions of the prompt's products, divided by that of the best product.
    pub(super) prefill_of_gemm: f64,
}

/// A figure over all runs.
#[derive(Debug, Serialize, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// The spread of the values that are known; `None` if none is.
    pub(super) fn of_known(values: impl Iterator<Item = Option<f64>>) -> Option<Spread> {
        let known: Vec<f64> = values.flatten().collect();
        if known.is_empty() { None } else { Some(Spread::of(known)) }
    }

    /// Median, least and greatest value.
    pub(super) fn figures(&self) -> (f64, f64, f64) {
        (self.median, self.min, self.max)
    }

    /// The spread of at least one value; NaN if there is none.
    pub(super) fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let n = values.len();
        let median = (at(n / 2) + at(n.saturating_sub(1) / 2)) / 2.0;
        Spread { median, min: at(0), max: at(n.saturating_sub(1)) }
    }
}

/// The JSON object that `--json` prints.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) model: String,
    pub(super) title: String,
    pub(super) device: String,
    #[serde(flatten)]
    pub(super) origin: Origin,
    pub(super) n_prompt: usize,
    pub(super) n_gen: usize,
    pub(super) n_runs: usize,
    /// The time in which the GPU's driver started, measured once.
    pub(super) open_device_ms: Option<f64>,
    /// The time until the model can be used.
    pub(super) load_ms: Spread,
    /// The time until all of its weights are on the device.
    pub(super) resident_ms: Spread,
    pub(super) first_token_ms: Spread,
    pub(super) prefill_tps: Spread,
    pub(super) decode_tps: Spread,
    pub(super) generate_tps: Option<Spread>,
    pub(super) sample_tps: Option<Spread>,
    pub(super) embed_ms: Spread,
    pub(super) embed_batch_ms: Spread,
    pub(super) state_ms: Spread,
    pub(super) batch_8_tps: Spread,
    pub(super) batch_64_tps: Spread,
    /// The tokens per second of 8 texts generated side by side, all together.
    pub(super) generate_8_tps: Option<Spread>,
    pub(super) generate_64_tps: Option<Spread>,
    pub(super) load_anon_mib: Option<f64>,
    pub(super) peak_anon_mib: Option<f64>,
    pub(super) peak_rss_mib: Option<f64>,
    /// The GPU's memory; absent on the processor.
    #[serde(flatten)]
    pub(super) gpu_memory: Option<GpuMemory>,
    /// The parts of its limits that the GPU reached; absent unless it is a hardware GPU with a clock.
    #[serde(flatten)]
    pub(super) reached: Option<Reached>,
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({}) on {}", self.model, self.title, self.device)?;
        writeln!(f, "prompt {}, generate {}, runs {}", self.n_prompt, self.n_gen, self.n_runs)?;
        writeln!(f, "anser {}, commit {}\n", self.origin.version, self.origin.commit)?;
        writeln!(f, "{:<16} {:>10} {:>10} {:>10}", "", "median", "min", "max")?;
        if let Some(ms) = self.open_device_ms {
            writeln!(f, "{:<16} {ms:>10.2}", "open_device_ms")?;
        }
        let timed = [
            ("load_ms", Some(&self.load_ms)),
            ("resident_ms", Some(&self.resident_ms)),
            ("first_token_ms", Some(&self.first_token_ms)),
            ("prefill_tps", Some(&self.prefill_tps)),
            ("decode_tps", Some(&self.decode_tps)),
            ("generate_tps", self.generate_tps.as_ref()),
            ("sample_tps", self.sample_tps.as_ref()),
            ("embed_ms", Some(&self.embed_ms)),
            ("embed_batch_ms", Some(&self.embed_batch_ms)),
            ("state_ms", Some(&self.state_ms)),
            ("batch_8_tps", Some(&self.batch_8_tps)),
            ("batch_64_tps", Some(&self.batch_64_tps)),
            ("generate_8_tps", self.generate_8_tps.as_ref()),
            ("generate_64_tps", self.generate_64_tps.as_ref()),
        ];
        for (name, spread) in timed {
            match spread {
                Some(Spread { median, min, max }) => writeln!(f, "{name:<16} {median:>10.2} {min:>10.2} {max:>10.2}")?,
                None => writeln!(f, "{name:<16} {:>10}", "unknown")?,
            }
        }
        let mut memory = vec![
            ("load_anon_mib", self.load_anon_mib),
            ("peak_anon_mib", self.peak_anon_mib),
            ("peak_rss_mib", self.peak_rss_mib),
        ];
        if let Some(gpu) = &self.gpu_memory {
            memory.extend([
                ("gpu_weights_mib", Some(gpu.gpu_weights_mib)),
                ("gpu_states_mib", Some(gpu.gpu_states_mib)),
                ("gpu_scratch_mib", gpu.gpu_scratch_mib),
                ("gpu_reserved_mib", gpu.gpu_reserved_mib),
            ]);
        }
        for (name, value) in memory {
            match value {
                Some(mib) => writeln!(f, "{name:<16} {mib:>10.2}")?,
                None => writeln!(f, "{name:<16} {:>10}", "unknown")?,
            }
        }
        if let Some(Reached { copy_gb_per_s, gemm_tflop_per_s, decode_of_copy, prefill_of_gemm }) = self.reached {
            writeln!(f, "{:<16} {decode_of_copy:>10.3} of a copy's {copy_gb_per_s:.0} GB/s", "decode_of_copy")?;
            writeln!(f, "{:<16} {prefill_of_gemm:>10.3} of {gemm_tflop_per_s:.0} TFLOP/s", "prefill_of_gemm")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn median_of_odd_and_even_counts() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of(vec![7.0]), Spread { median: 7.0, min: 7.0, max: 7.0 });
    }
}
