// Magnitudes of IQ3_XXS, four in a number: 4, 12, 20, 28, 36, 44, 52 and 62 for n = 0 to 7.

fn magnitudes(n: vec4<u32>) -> vec4<u32> {
    let is_7 = n & (n >> vec4<u32>(1u)) & (n >> vec4<u32>(2u)) & vec4<u32>(0x01010101u);
    return vec4<u32>(0x04040404u) + 8u * n + 2u * is_7;
}
