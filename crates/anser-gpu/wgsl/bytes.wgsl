// Activations in 8 bits: each piece of 16 becomes e·n with n = −127..=127, e = max |x| / 127.

struct Bytes {
    quants: vec4<u32>,  // 16 signed bytes n
    scales: vec2<f32>, // e and e·Σ n
}

fn round4(v: vec4<f32>) -> vec4<i32> {
    return vec4<i32>(round(v));
}

fn largest(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

fn to_bytes(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> Bytes {
    let scale = largest(max(max(abs(a), abs(b)), max(abs(c), abs(d)))) / 127.0;
    let inverse = select(0.0, 1.0 / scale, scale > 1e-37); // below, the inverse would overflow
    let qa = round4(a * inverse);
    let qb = round4(b * inverse);
    let qc = round4(c * inverse);
    let qd = round4(d * inverse);
    let sums = (qa + qb) + (qc + qd);
    let sum = (sums.x + sums.y) + (sums.z + sums.w);
    let quants = vec4<u32>(pack4xI8(qa), pack4xI8(qb), pack4xI8(qc), pack4xI8(qd));
    return Bytes(quants, vec2<f32>(scale, scale * f32(sum)));
}
