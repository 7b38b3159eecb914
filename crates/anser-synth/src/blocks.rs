//! Random elements of every stored type, made directly in the form in which they lie in a file.

use anser_format::DType;
use anser_format::quant::{BlockQ4K, BlockQ5K, BlockQ6K, BlockQ8_0};
use half::f16;

use crate::random::{Stream, normal_quantiles};

/// A generator of normally distributed elements of one type, with a given mean and standard deviation.
pub(crate) enum Blocks {
    /// F32 elements: a table of values, from which a random 16-bit number picks one. They are numbers of F16, so that a
    /// file converted to F16 holds the same numbers.
    F32(Vec<f32>),
    /// F16 elements, from a table as for F32.
    F16(Vec<f16>),
    /// 8-bit quants.
    Q8_0(Quants),
    /// 6-bit quants.
    Q6K(Quants),
    /// 5-bit quants.
    Q5K(Quants),
    /// 4-bit quants.
    Q4K(Quants),
}

/// The distribution of a quantized type's numbers.
pub(crate) struct Quants {
    /// The table of quants from which a random byte picks one.
    table: Box<[i8; 256]>,
    /// The mean scale of the blocks.
    scale: f32,
    /// The scale of the minima, in units of the scale of the scales; 0 for types without minima.
    offset: f32,
}

/// The standard deviations from the mean to the last quant. Quantizers fit the range of a sub-block, and the extremes
/// of 16 or 32 normal values lie at about two; a slightly larger value clips less.
const CLIP: f32 = 2.5;

/// The range of the sub-block scales of Q4_K and Q5_K, within 0..=63. Their root mean square is 52.
const AFFINE_SCALES: std::ops::RangeInclusive<u8> = 40..=63;

/// The range of the magnitudes of Q6_K's sub-block scales, within 0..=128. Their root mean square is 97.
const SYMMETRIC_SCALES: std::ops::RangeInclusive<u8> = 64..=127;

impl Blocks {
    /// A generator of elements with mean `mean` and standard deviation `std`; `None` if `dtype` is none of F32, F16,
    /// Q8_0, Q4_K, Q5_K and Q6_K.
    pub(crate) fn new(dtype: DType, mean: f32, std: f32) -> Option<Blocks> {
        let values = || normal_quantiles().iter().map(|z| f16::from_f32(mean + std * z));
        // The mean shifts the quants of symmetric types and the minima of affine types.
        let symmetric = |largest: f32, scales: f32| {
            let (table, spread) = quant_table(0.0, mean / std, -largest, largest);
            Quants { table, scale: std / (spread * scales), offset: 0.0 }
        };
        let affine = |centre: f32| {
            let (table, spread) = quant_table(centre, 0.0, 0.0, 2.0 * centre);
            let scale = std / (spread * root_mean_square(AFFINE_SCALES));
            Quants { table, scale, offset: centre - mean / std * spread }
        };
        Some(match dtype {
            DType::F32 => Blocks::F32(values().map(f16::to_f32).collect()),
            DType::F16 => Blocks::F16(values().collect()),
            DType::Q8_0 => Blocks::Q8_0(symmetric(127.0, 1.0)),
            DType::Q6_K => Blocks::Q6K(symmetric(31.0, root_mean_square(SYMMETRIC_SCALES))),
            DType::Q5_K => Blocks::Q5K(affine(15.5)),
            DType::Q4_K => Blocks::Q4K(affine(7.5)),
            DType::BF16
            | DType::Q4_0
            | DType::Q4_1
            | DType::Q5_0
            | DType::Q5_1
            | DType::Q2_K
            | DType::Q3_K
            | DType::IQ4_NL
            | DType::IQ4_XS
            | DType::IQ2_XXS
            | DType::IQ2_XS
            | DType::IQ2_S
            | DType::IQ3_XXS
            | DType::IQ3_S
            | DType::IQ1_S
            | DType::IQ1_M => return None,
        })
    }

    /// The bytes of `n` elements, a multiple of the type's block length.
    pub(crate) fn generate(&self, stream: &mut Stream, n: usize) -> Vec<u8> {
        match self {
            Blocks::F32(values) => floats(stream, n, values, f32::to_le_bytes),
            Blocks::F16(values) => floats(stream, n, values, f16::to_le_bytes),
            Blocks::Q8_0(quants) => (0..n / 32).flat_map(|_| q8_0(stream, quants)).collect(),
            Blocks::Q6K(quants) => (0..n / 256).flat_map(|_| q6_k(stream, quants)).collect(),
            Blocks::Q5K(quants) => {
                let block = |a: Affine| BlockQ5K::pack(a.d, a.dmin, &a.scales, &a.mins, &a.quants).to_bytes();
                (0..n / 256).flat_map(|_| block(affine(stream, quants))).collect()
            }
            Blocks::Q4K(quants) => {
                let block = |a: Affine| BlockQ4K::pack(a.d, a.dmin, &a.scales, &a.mins, &a.quants).to_bytes();
                (0..n / 256).flat_map(|_| block(affine(stream, quants))).collect()
            }
        }
    }
}

/// Makes four elements from each 64 random bits.
fn floats<const N: usize, T: Copy>(
    stream: &mut Stream,
    n: usize,
    values: &[T],
    to_bytes: impl Fn(T) -> [u8; N],
) -> Vec<u8> {
    let mut bytes = vec![0; n * N];
    for four in bytes.chunks_mut(4 * N) {
        let bits = stream.next_u64();
        for (lane, element) in four.chunks_exact_mut(N).enumerate() {
            element.copy_from_slice(&to_bytes(values[usize::from((bits >> (16 * lane)) as u16)]));
        }
    }
    bytes
}

/// The numbers of a Q4_K or Q5_K block.
struct Affine {
    d: f16,
    dmin: f16,
    scales: [u8; 8],
    mins: [u8; 8],
    quants: [u8; 256],
}

fn affine(stream: &mut Stream, numbers: &Quants) -> Affine {
    let d = numbers.scale * jitter(stream);
    let mut bytes = [0; 8];
    stream.fill(&mut bytes);
    let scales = bytes.map(|byte| pick(AFFINE_SCALES, byte));
    // A minimum equal to its scale would centre the sub-block exactly; real ones vary a little.
    stream.fill(&mut bytes);
    let mins = std::array::from_fn(|s| (scales[s] - 1 + pick(0..=2, bytes[s])).min(63));
    let quants = draw(stream, &numbers.table).map(|quant| quant as u8);
    Affine { d: f16::from_f32(d), dmin: f16::from_f32(d * numbers.offset), scales, mins, quants }
}

fn q6_k(stream: &mut Stream, numbers: &Quants) -> [u8; 210] {
    let d = f16::from_f32(numbers.scale * jitter(stream));
    let mut bytes = [0; 16];
    stream.fill(&mut bytes);
    let signs = stream.next_u64();
    let mut quants = draw(stream, &numbers.table);
    let mut scales = [0; 16];
    for (s, quants) in quants.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        scales[s] = pick(SYMMETRIC_SCALES, bytes[s]) as i8;
        if signs >> s & 1 == 1 {
            scales[s] = -scales[s];
            *quants = quants.map(|quant| -quant);
        }
    }
    BlockQ6K::pack(d, scales, &quants).to_bytes()
}

fn q8_0(stream: &mut Stream, numbers: &Quants) -> [u8; 34] {
    BlockQ8_0 { d: f16::from_f32(numbers.scale * jitter(stream)), qs: draw(stream, &numbers.table) }.to_bytes()
}

/// Quants at 256 evenly spaced quantiles, and their standard deviation: normal around `centre` + `shift` standard
/// deviations, rounded and clipped to `low..=high`.
fn quant_table(centre: f32, shift: f32, low: f32, high: f32) -> (Box<[i8; 256]>, f32) {
    let spread = (high - low) / 2.0 / CLIP;
    let quantiles = normal_quantiles();
    let step = quantiles.len() / 256;
    let quants: [f32; 256] =
        std::array::from_fn(|i| (centre + spread * (quantiles[i * step + step / 2] + shift)).round().clamp(low, high));
    let mean = quants.iter().sum::<f32>() / 256.0;
    let variance = quants.iter().map(|quant| (quant - mean).powi(2)).sum::<f32>() / 256.0;
    (Box::new(quants.map(|quant| quant as i8)), variance.sqrt())
}

fn draw<const N: usize>(stream: &mut Stream, table: &[i8; 256]) -> [i8; N] {
    let mut bytes = [0; N];
    stream.fill(&mut bytes);
    bytes.map(|byte| table[usize::from(byte)])
}

/// Maps a random byte to one of a range of numbers, with equal probabilities but for rounding.
fn pick(range: std::ops::RangeInclusive<u8>, byte: u8) -> u8 {
    let n = u16::from(range.end() - range.start()) + 1;
    range.start() + ((u16::from(byte) * n) >> 8) as u8
}

/// A factor in 0.9..1.1, so that blocks differ in scale.
fn jitter(stream: &mut Stream) -> f32 {
    0.9 + 0.2 * (stream.next_u64() >> 40) as f32 / (1u32 << 24) as f32
}

fn root_mean_square(range: std::ops::RangeInclusive<u8>) -> f32 {
    let n = range.len() as f32;
    (range.map(|number| f32::from(number).powi(2)).sum::<f32>() / n).sqrt()
}

#[cfg(test)]
mod tests {
    use anser_format::quant::dequantize;

    use super::*;

    #[test]
    fn every_type_has_the_mean_and_deviation_asked_for() {
        const N: usize = 1 << 18;
        for dtype in [DType::F32, DType::F16, DType::Q8_0, DType::Q6_K, DType::Q5_K, DType::Q4_K] {
            for (mean, std) in [(0.0, 0.02), (-0.002, 0.02), (0.1, 0.5)] {
                let bytes = Blocks::new(dtype, mean, std).unwrap().generate(&mut Stream::new(1, "test", 0), N);
                let mut values = vec![0.0; N];
                dequantize(dtype, &bytes, &mut values);
                let found_mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / N as f64;
                let variance = values.iter().map(|&v| (f64::from(v) - found_mean).powi(2)).sum::<f64>() / N as f64;
                let (mean, std) = (f64::from(mean), f64::from(std));
                assert!((found_mean - mean).abs() < 0.015 * std, "{dtype}: mean {found_mean}, asked for {mean}");
                assert!((variance.sqrt() / std - 1.0).abs() < 0.03, "{dtype}: {} for {std}", variance.sqrt());
            }
        }
    }

    #[test]
    fn any_number_of_floats_can_be_made() {
        for n in [1, 2, 3, 4, 7] {
            let bytes = Blocks::new(DType::F32, 0.0, 1.0).unwrap().generate(&mut Stream::new(1, "test", 0), n);
            assert_eq!(bytes.len(), 4 * n);
        }
    }
}
