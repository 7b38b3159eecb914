// x `[T, N_COLS]` in 8 bits: each piece of 16 columns becomes e·n with n = −127..=127, e = max |x| / 127.
//
// One thread per piece; workgroups along x cover a row, along y the tokens.

@group(0) @binding(1) var<storage, read_write> quants: array<vec4<u32>>; // [T, N_PIECES], 16 signed bytes n each
@group(0) @binding(2) var<storage, read_write> scales: array<vec2<f32>>; // [T, N_PIECES], e and e·Σ n

override N_COLS: u32;

override WORKGROUP: u32;

override N_PIECES: u32 = N_COLS / 16u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;

fn round4(v: vec4<f32>) -> vec4<i32> {
    return vec4<i32>(round(v));
}

fn largest(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

fn sum4(v: vec4<i32>) -> i32 {
    return v.x + v.y + v.z + v.w;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N_PIECES {
        return;
    }
    let piece = id.y * N_PIECES + id.x;
    let a = x[4u * piece];
    let b = x[4u * piece + 1u];
    let c = x[4u * piece + 2u];
    let d = x[4u * piece + 3u];
    let scale = largest(max(max(abs(a), abs(b)), max(abs(c), abs(d)))) / 127.0;
    let inverse = select(0.0, 1.0 / scale, scale > 1e-37); // below, the inverse would overflow
    let qa = round4(a * inverse);
    let qb = round4(b * inverse);
    let qc = round4(c * inverse);
    let qd = round4(d * inverse);
    quants[piece] = vec4<u32>(pack4xI8(qa), pack4xI8(qb), pack4xI8(qc), pack4xI8(qd));
    scales[piece] = vec2<f32>(scale, scale * f32(sum4(qa) + sum4(qb) + sum4(qc) + sum4(qd)));
}
