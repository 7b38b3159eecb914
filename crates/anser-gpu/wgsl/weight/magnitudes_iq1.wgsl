// Magnitudes of IQ1_S and IQ1_M, four in a number: 1, 7 and 9 for n = 0, 1 and 2.

fn magnitudes(n: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(0x01010101u) + 6u * n - 4u * ((n >> vec4<u32>(1u)) & vec4<u32>(0x01010101u));
}
