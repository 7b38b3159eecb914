//! Reproducible random numbers, with a stream for each chunk of a tensor, so that chunks can be made in any order.

use std::sync::LazyLock;

/// Number of quantiles in the table of the normal distribution: one for every 16-bit number.
const N_QUANTILES: usize = 1 << 16;

/// A stream of random bits: the splitmix64 generator, which passes any sequence of counters through a mixing function.
pub(crate) struct Stream {
    counter: u64,
}

impl Stream {
    /// The stream of one chunk of one tensor.
    pub(crate) fn new(seed: u64, tensor: &str, chunk: u64) -> Stream {
        // FNV-1a over the name; mixing in between keeps neighbouring seeds and chunks apart.
        let name = tensor
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        Stream { counter: mix(mix(mix(seed) ^ name) ^ chunk) }
    }

    /// 64 random bits.
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.counter)
    }

    /// Fills a slice with random bytes.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A bijection of 64 bits in which every output bit depends on every input bit.
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// 65,536 evenly spaced quantiles of the standard normal distribution, ascending: a random 16-bit index draws from it.
pub(crate) fn normal_quantiles() -> &'static [f32] {
    static QUANTILES: LazyLock<Vec<f32>> = LazyLock::new(|| {
        // Walk up the distribution function with the trapezoid rule and note where it passes each (i + ½) / n.
        const STEP: f64 = 1.0 / 2048.0;
        let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let (mut x, mut below) = (-8.0, 0.0);
        let mut quantiles = Vec::with_capacity(N_QUANTILES);
        while quantiles.len() < N_QUANTILES {
            let gain = 0.5 * STEP * (density(x) + density(x + STEP));
            let target = (quantiles.len() as f64 + 0.5) / N_QUANTILES as f64;
            if target <= below + gain {
                quantiles.push((x + STEP * (target - below) / gain) as f32);
            } else {
                below += gain;
                x += STEP;
            }
        }
        quantiles
    });
    &QUANTILES
}

/// The number at which the standard normal distribution function reaches `probability`; the table's ends for 0 and 1.
pub(crate) fn normal_quantile(probability: f64) -> f64 {
    let index = (probability * N_QUANTILES as f64) as usize;
    f64::from(normal_quantiles()[index.min(N_QUANTILES - 1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_normal_distribution() {
        // The expected numbers are those of published tables.
        for (probability, expected) in
            [(0.5, 0.0), (0.841_344_7, 1.0), (0.975, 1.959_964), (0.999, 3.090_232), (0.01, -2.326_348)]
        {
            let found = normal_quantile(probability);
            assert!((found - expected).abs() < 2e-3, "{probability}: {found}, expected {expected}");
        }
        let quantiles = normal_quantiles();
        let n = quantiles.len() as f64;
        let mean = quantiles.iter().map(|&z| f64::from(z)).sum::<f64>() / n;
        let variance = quantiles.iter().map(|&z| f64::from(z).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-3, "mean {mean}, variance {variance}");
    }

    #[test]
    fn streams_are_reproducible_and_differ() {
        let first = |seed, tensor, chunk| Stream::new(seed, tensor, chunk).next_u64();
        assert_eq!(first(7, "a", 0), first(7, "a", 0));
        let firsts = [first(7, "a", 0), first(8, "a", 0), first(7, "b", 0), first(7, "a", 1)];
        for (i, a) in firsts.iter().enumerate() {
            assert!(!firsts[..i].contains(a));
        }
    }
}
