//! Fields of a block at positions known at compile time.

use half::f16;

/// The `N` bytes of a block from byte `START` on.
#[inline]
pub(super) fn bytes_at<const START: usize, const N: usize, const BLOCK: usize>(block: &[u8; BLOCK]) -> [u8; N] {
    const { assert!(START + N <= BLOCK) };
    std::array::from_fn(|i| block[START + i])
}

/// The F16 in bytes `START` and `START + 1` of a block.
#[inline]
pub(super) fn f16_at<const START: usize, const BLOCK: usize>(block: &[u8; BLOCK]) -> f16 {
    f16::from_le_bytes(bytes_at::<START, 2, BLOCK>(block))
}

/// A block's bytes from those of its fields, in order.
pub(super) fn concat<const BLOCK: usize>(fields: &[&[u8]]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut at = 0;
    for field in fields {
        block[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    }
    debug_assert_eq!(at, BLOCK);
    block
}
