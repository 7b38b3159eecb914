// out = (norm(y) ∘ weight + bias) ∘ g, the norm per head; without g if there is none. One workgroup per head and token. Follows
// reduce/*.wgsl.

override N_COLS: u32;    // C
override HEAD_SIZE: u32; // N
override EPS: f32;
override HAS_GATE: bool;

@group(0) @binding(0) var<storage, read> y: array<f32>;         // [T, C]
@group(0) @binding(1) var<storage, read> g: array<f32>;         // [T, C]
@group(0) @binding(2) var<storage, read> weight: array<f32>;    // [C]
@group(0) @binding(3) var<storage, read> bias: array<f32>;      // [C]
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [T, C]

fn run(workgroup: vec3<u32>, local: u32) {
    let head = workgroup.x * HEAD_SIZE;
    let row = workgroup.y * N_COLS;
    var sum = 0.0;
    for (var c = head + local; c < head + HEAD_SIZE; c += WORKGROUP) {
        sum += y[row + c];
    }
    let mean = workgroup_sum(sum, local) / f32(HEAD_SIZE);

    var squares = 0.0;
    for (var c = head + local; c < head + HEAD_SIZE; c += WORKGROUP) {
        let d = y[row + c] - mean;
        squares += d * d;
    }
    let scale = inverseSqrt(workgroup_sum(squares, local) / f32(HEAD_SIZE) + EPS);
    for (var c = head + local; c < head + HEAD_SIZE; c += WORKGROUP) {
        let normed = (y[row + c] - mean) * scale * weight[c] + bias[c];
        out[row + c] = select(normed, normed * g[row + c], HAS_GATE);
    }
}
