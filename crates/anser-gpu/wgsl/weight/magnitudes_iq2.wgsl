// Magnitudes of the IQ2 types, four in a number: 8, 25 and 43 for n = 0, 1 and 2.

fn magnitudes(n: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(0x08080808u) + 17u * n + ((n >> vec4<u32>(1u)) & vec4<u32>(0x01010101u));
}
