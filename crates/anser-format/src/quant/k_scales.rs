//! The 6-bit scales and minima of Q4_K and Q5_K: eight of each in twelve bytes.

/// Scale and minimum (0..=63 each) of sub-block s = `sub_block` < 8.
///
/// | s | scale | minimum |
/// |---|---|---|
/// | 0..4 | byte s, bits 0..6 | byte s + 4, bits 0..6 |
/// | 4..8 | byte s + 4, low nibble; bits 4 and 5 are bits 6 and 7 of byte s − 4 | byte s + 4, high nibble; bits 4 and 5 are bits 6 and 7 of byte s |
///
/// # Panics
/// If `sub_block` is not below 8.
pub fn scale_min(scales: &[u8; 12], sub_block: usize) -> (u8, u8) {
    let s = sub_block;
    if s < 4 {
        (scales[s] & 63, scales[s + 4] & 63)
    } else {
        (scales[s + 4] & 15 | scales[s - 4] >> 6 << 4, scales[s + 4] >> 4 | scales[s] >> 6 << 4)
    }
}

/// The inverse of [`scale_min`]; of each number the low six bits are kept.
pub fn pack_scales_mins(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for s in 0..4 {
        packed[s] = scales[s] & 63 | scales[s + 4] >> 4 << 6;
        packed[s + 4] = mins[s] & 63 | mins[s + 4] >> 4 << 6;
        packed[s + 8] = scales[s + 4] & 15 | mins[s + 4] << 4;
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_undone_by_unpacking() {
        let scales = [0, 63, 21, 42, 63, 0, 37, 26];
        let mins = [63, 1, 50, 13, 16, 15, 48, 63];
        let packed = pack_scales_mins(&scales, &mins);
        for s in 0..8 {
            assert_eq!(scale_min(&packed, s), (scales[s], mins[s]));
        }
    }
}
