// The header that blocks of Q4_K and Q5_K share: f16 d and dmin, and 8 pairs of 6-bit scales and minima.

// Scale and offset of sub-block 2·g + n (32 columns): (d · scale, dmin · min).
//
// Scales of sub-blocks 0..4 are the low 6 bits of the bytes of header.y, minima those of header.z. The others have
// their low 4 bits in a nibble of header.w (scales low, minima high) and their high 2 bits on top of the former.
fn k_scale(header: vec4<u32>, g: u32, n: u32) -> vec2<f32> {
    let low = header.yz & vec2<u32>(0x3f3f3f3fu);
    let high = (vec2<u32>(header.w, header.w >> 4u) & vec2<u32>(0x0f0f0f0fu))
        | ((header.yz >> vec2<u32>(2u)) & vec2<u32>(0x30303030u));
    // Both sub-blocks of a pair are decoded, whichever is asked for: the compiler merges the work of a kernel that asks for both.
    let two = select(low, high, g >= 2u) >> vec2<u32>(16u * (g % 2u));
    let scale_min = (two >> vec2<u32>(8u * n)) & vec2<u32>(0xffu);
    return unpack2x16float(header.x) * vec2<f32>(scale_min);
}
