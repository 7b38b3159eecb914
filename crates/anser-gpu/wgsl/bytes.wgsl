// Activations in 8 bits: each piece of 16 becomes e·n with n = −127..=127, e = max |x| / 127.

struct Bytes {
    quants: vec4<u32>,  // 16 signed bytes n
    scales: vec2<f32>, // e and e·Σ n
}

// 1.5 · 2²³: the low byte of such a sum is that of the rounded number, and adding is faster than rounding and converting.
const BYTE_BIAS: f32 = 12582912.0;

// Four numbers times `inverse`, −127..=127, as signed bytes.
fn four_bytes(v: vec4<f32>, inverse: f32) -> u32 {
    let bits = bitcast<vec4<u32>>(fma(v, vec4<f32>(inverse), vec4<f32>(BYTE_BIAS)));
    let bytes = bits & vec4<u32>(0xffu);
    return (bytes.x | (bytes.y << 8u)) | ((bytes.z << 16u) | (bytes.w << 24u));
}

fn largest(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

// What numbers up to `most` are multiplied by.
fn byte_inverse(most: f32) -> f32 {
    return select(0.0, 127.0 / most, most > 1e-35); // below, the inverse would overflow
}

fn byte_scales(most: f32, n: vec4<u32>) -> vec2<f32> {
    let ones = 0x01010101u;
    let sum = dot4I8Packed(n.x, ones) + dot4I8Packed(n.y, ones) + dot4I8Packed(n.z, ones) + dot4I8Packed(n.w, ones);
    let scale = most * (1.0 / 127.0);
    return vec2<f32>(scale, scale * f32(sum));
}

fn to_bytes(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> Bytes {
    let most = largest(max(max(abs(a), abs(b)), max(abs(c), abs(d))));
    let inverse = byte_inverse(most);
    let n = vec4<u32>(four_bytes(a, inverse), four_bytes(b, inverse), four_bytes(c, inverse), four_bytes(d, inverse));
    return Bytes(n, byte_scales(most, n));
}
