// Magnitudes of IQ3_S, four in a number: 2·n + 1 for n = 0 to 7.

fn magnitudes(n: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(0x01010101u) + 2u * n;
}
