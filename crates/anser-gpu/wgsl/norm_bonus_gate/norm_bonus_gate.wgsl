// out = (norm(y) ∘ weight + bias + (Σ r ∘ k ∘ r_k)·v) ∘ g, norm and sum per head. One workgroup per head and token.
// Follows reduce/*.wgsl and out/*.wgsl.

override N_COLS: u32;    // C
override HEAD_SIZE: u32; // N
override EPS: f32;

@group(0) @binding(0) var<storage, read> y: array<f32>;         // [T, C]
@group(0) @binding(1) var<storage, read> r: array<f32>;         // [T, C]
@group(0) @binding(2) var<storage, read> k: array<f32>;         // [T, C]
@group(0) @binding(3) var<storage, read> v: array<f32>;         // [T, C]
@group(0) @binding(4) var<storage, read> g: array<f32>;         // [T, C]
@group(0) @binding(5) var<storage, read> r_k: array<f32>;       // [C]
@group(0) @binding(6) var<storage, read> weight: array<f32>;    // [C]
@group(0) @binding(7) var<storage, read> bias: array<f32>;      // [C]
@group(0) @binding(8) var<storage, read_write> out: array<Out>; // [T, C]

fn run(workgroup: vec3<u32>, local: u32) {
    let head = workgroup.x * HEAD_SIZE;
    let row = workgroup.y * N_COLS;
    var sums = vec2<f32>(0.0); // Σ y, Σ r ∘ k ∘ r_k
    for (var c = head + local; c < head + HEAD_SIZE; c += WORKGROUP) {
        sums += vec2<f32>(y[row + c], r[row + c] * k[row + c] * r_k[c]);
    }
    sums = workgroup_sum2(sums, local);
    let mean = sums.x / f32(HEAD_SIZE);
    let bonus = sums.y;

    var squares = 0.0;
    for (var c = head + local; c < head + HEAD_SIZE; c += WORKGROUP) {
        let d = y[row + c] - mean;
        squares += d * d;
    }
    let scale = inverseSqrt(workgroup_sum(squares, local) / f32(HEAD_SIZE) + EPS);
    for (var c = head + local; c < head + HEAD_SIZE; c += WORKGROUP) {
        let i = row + c;
        out[i] = to_out(((y[i] - mean) * scale * weight[c] + bias[c] + bonus * v[i]) * g[i]);
    }
}
