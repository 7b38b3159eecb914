//! Rows of a file, written as the device has them.

use anser_format::DType;
use anser_format::quant::{
    BlockIq4Nl, BlockIq4Xs, BlockQ3K, BlockQ4_0, BlockQ5_0, BlockQ6K, BlockQ8_0, CodebookBlock, dequantize,
};
use half::f16;

/// Writes a row of `n_cols` columns, whole blocks of a file, as the device has it.
pub(crate) type Write = fn(row: &[u8], n_cols: usize, out: &mut [u8]);

/// As it is, with zeros behind it.
pub(crate) fn padded(row: &[u8], _: usize, out: &mut [u8]) {
    let (start, padding) = out.split_at_mut(row.len());
    start.copy_from_slice(row);
    padding.fill(0);
}

pub(crate) fn q8_0(row: &[u8], _: usize, out: &mut [u8]) {
    write_q8_0(blocks(row).map(|block: &[u8; 34]| BlockQ8_0::from_bytes(block)), out);
}

pub(crate) fn q6_k(row: &[u8], _: usize, out: &mut [u8]) {
    write_q6_k(blocks(row).map(|block: &[u8; 210]| BlockQ6K::from_bytes(block)), out);
}

pub(crate) fn q4_0(row: &[u8], _: usize, out: &mut [u8]) {
    write_q8_0(blocks(row).map(q4_0_as_q8_0), out);
}

pub(crate) fn q5_0(row: &[u8], _: usize, out: &mut [u8]) {
    write_q8_0(blocks(row).map(q5_0_as_q8_0), out);
}

pub(crate) fn iq4_nl(row: &[u8], _: usize, out: &mut [u8]) {
    write_q8_0(blocks(row).map(iq4_nl_as_q8_0), out);
}

pub(crate) fn iq4_xs(row: &[u8], _: usize, out: &mut [u8]) {
    write_q8_0(blocks(row).flat_map(iq4_xs_as_q8_0), out);
}

pub(crate) fn q3_k(row: &[u8], _: usize, out: &mut [u8]) {
    write_q6_k(blocks(row).map(q3_k_as_q6_k), out);
}

pub(crate) fn q4_1(row: &[u8], n_cols: usize, out: &mut [u8]) {
    as_f16(DType::Q4_1, row, n_cols, out);
}

pub(crate) fn q5_1(row: &[u8], n_cols: usize, out: &mut [u8]) {
    as_f16(DType::Q5_1, row, n_cols, out);
}

pub(crate) fn q2_k(row: &[u8], n_cols: usize, out: &mut [u8]) {
    as_f16(DType::Q2_K, row, n_cols, out);
}

/// A type whose integers come from a codebook, see `wgsl/weight/codebooks.wgsl`.
pub(crate) fn codebook<B: CodebookBlock<N_BYTES, SUBS>, const N_BYTES: usize, const SUBS: usize>(
    row: &[u8],
    _: usize,
    out: &mut [u8],
) {
    let mut quants = [0; 256];
    let codes = const { &codes(B::MAGNITUDES) };
    for (block, out) in blocks(row).zip(out.as_chunks_mut::<144>().0) {
        let block = B::from_bytes(block);
        block.unsigned_quants(&mut quants);
        let (header, nibbles) = out.split_at_mut(16);
        header.fill(0);
        for (s, header) in header[..8].iter_mut().enumerate() {
            let step = |piece: usize| block.steps()[piece * SUBS / 16];
            *header = step(2 * s) >> 1 | step(2 * s + 1) >> 1 << 4;
        }
        header[8..12].copy_from_slice(&(block.d().to_f32() * B::UNIT).to_le_bytes());
        for (quants, out) in quants.as_chunks::<32>().0.iter().zip(nibbles.as_chunks_mut::<16>().0) {
            *out = std::array::from_fn(|i| {
                let code = |i: usize| codes[usize::from(quants[i])];
                code(i) | code(i + 16) << 4
            });
        }
    }
}

/// The code of each integer + 128: the number of its magnitude, and 8 if it is negative.
const fn codes(magnitudes: &[u8]) -> [u8; 256] {
    let mut codes = [0; 256];
    let mut i = 0;
    while i < magnitudes.len() {
        codes[128 + magnitudes[i] as usize] = i as u8;
        codes[128 - magnitudes[i] as usize] = i as u8 | 8;
        i += 1;
    }
    codes
}

pub(crate) fn f32_as_f16(row: &[u8], n_cols: usize, out: &mut [u8]) {
    as_f16(DType::F32, row, n_cols, out);
}

/// The row's values as F16, with zeros behind them.
fn as_f16(from: DType, row: &[u8], n_cols: usize, out: &mut [u8]) {
    let mut values = vec![0.0; n_cols];
    dequantize(from, row, &mut values);
    let padded = values.into_iter().chain(std::iter::repeat(0.0));
    for (out, value) in out.as_chunks_mut().0.iter_mut().zip(padded) {
        *out = f16::from_f32(value).to_le_bytes();
    }
}

/// The blocks of a row.
fn blocks<const N: usize>(row: &[u8]) -> impl Iterator<Item = &[u8; N]> {
    row.as_chunks().0.iter()
}

/// See `wgsl/weight/q8_0.wgsl`.
fn write_q8_0(blocks: impl Iterator<Item = BlockQ8_0>, out: &mut [u8]) {
    // A block is 32 quants and 2 bytes of scale: n blocks in 34·n bytes and less than 16 of padding.
    let n_blocks = out.len() / 34;
    let (quants, scales) = out.split_at_mut(32 * n_blocks);
    scales.fill(0);
    for (block, (quants, scale)) in blocks.zip(quants.as_chunks_mut::<32>().0.iter_mut().zip(scales.as_chunks_mut().0))
    {
        *quants = block.qs.map(|q| q as u8);
        *scale = block.d.to_le_bytes();
    }
}

/// See `wgsl/weight/q6_k.wgsl`.
fn write_q6_k(blocks: impl Iterator<Item = BlockQ6K>, out: &mut [u8]) {
    const LEN: usize = 208;
    let n_blocks = out.len() / (LEN + 2);
    let (bodies, scales) = out.split_at_mut(LEN * n_blocks);
    scales.fill(0);
    for (block, (body, d)) in blocks.zip(bodies.as_chunks_mut::<LEN>().0.iter_mut().zip(scales.as_chunks_mut().0)) {
        // All fields but the last, d, in the file's order.
        body.copy_from_slice(&block.to_bytes()[..LEN]);
        *d = block.d.to_le_bytes();
    }
}

fn q4_0_as_q8_0(block: &[u8; 18]) -> BlockQ8_0 {
    let block = BlockQ4_0::from_bytes(block);
    BlockQ8_0 { d: block.d, qs: block.quants() }
}

fn q5_0_as_q8_0(block: &[u8; 22]) -> BlockQ8_0 {
    let block = BlockQ5_0::from_bytes(block);
    BlockQ8_0 { d: block.d, qs: block.quants() }
}

fn iq4_nl_as_q8_0(block: &[u8; 18]) -> BlockQ8_0 {
    let block = BlockIq4Nl::from_bytes(block);
    BlockQ8_0 { d: block.d, qs: block.quants() }
}

fn iq4_xs_as_q8_0(block: &[u8; 136]) -> [BlockQ8_0; 8] {
    let block = BlockIq4Xs::from_bytes(block);
    let quants = block.quants();
    std::array::from_fn(|s| BlockQ8_0 {
        d: f16::from_f32(block.d.to_f32() * f32::from(block.scale(s))),
        qs: std::array::from_fn(|i| quants[32 * s + i]),
    })
}

fn q3_k_as_q6_k(block: &[u8; 110]) -> BlockQ6K {
    let block = BlockQ3K::from_bytes(block);
    BlockQ6K::pack(block.d, std::array::from_fn(|s| block.scale(s)), &block.quants())
}
