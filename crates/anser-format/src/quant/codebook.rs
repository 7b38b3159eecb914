//! What the seven codebook types (IQ1_S to IQ3_S) have in common.

use half::f16;

/// A block of 256 elements in `N_BYTES` bytes, whose integers come from a codebook and of which every 256 / `SUBS` share a
/// step: element i is `d` · `UNIT` · `steps[i · SUBS / 256]` · q, with the integer q of `unsigned_quants` less 128.
///
/// The products are exact in f32: `d` has 11 significant bits, a step at most 5 and an integer at most 6.
pub trait CodebookBlock<const N_BYTES: usize, const SUBS: usize>: Sized {
    /// The power of two that makes the steps and quants integers.
    const UNIT: f32;

    /// The magnitudes that the integers have, in ascending order: at most eight.
    const MAGNITUDES: &'static [u8];

    /// Reads a block as it stands in a file.
    fn from_bytes(block: &[u8; N_BYTES]) -> Self;

    /// The scale of the block.
    fn d(&self) -> f16;

    /// The step of every sub-block: an odd number below 32.
    fn steps(&self) -> [u8; SUBS];

    /// Writes q + 128 of every element, which kernels multiply.
    fn unsigned_quants(&self, out: &mut [u8; 256]);

    /// q of every element; |q| is at most 62.
    fn quants(&self) -> [i8; 256] {
        let mut quants = [0; 256];
        self.unsigned_quants(&mut quants);
        quants.map(|q| (q ^ 128) as i8)
    }

    /// The 256 values.
    fn dequantize(&self, out: &mut [f32; 256]) {
        let unit = self.d().to_f32() * Self::UNIT;
        let quants = self.quants();
        let sub_blocks = out.chunks_exact_mut(256 / SUBS).zip(quants.chunks_exact(256 / SUBS));
        for ((out, quants), step) in sub_blocks.zip(self.steps()) {
            let scale = unit * f32::from(step);
            for (out, &quant) in out.iter_mut().zip(quants) {
                *out = scale * f32::from(quant);
            }
        }
    }
}
