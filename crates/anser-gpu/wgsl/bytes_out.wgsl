// Writes activations in bytes to a buffer of words `out`, which the kernel declares. Follows bytes.wgsl.

// Piece number `piece` of a result whose bytes and scales begin at these words.
fn write_bytes(first: u32, first_scale: u32, piece: u32, bytes: Bytes) {
    let at = first + 4u * piece;
    out[at] = bytes.quants.x;
    out[at + 1u] = bytes.quants.y;
    out[at + 2u] = bytes.quants.z;
    out[at + 3u] = bytes.quants.w;
    out[first_scale + 2u * piece] = bitcast<u32>(bytes.scales.x);
    out[first_scale + 2u * piece + 1u] = bitcast<u32>(bytes.scales.y);
}
