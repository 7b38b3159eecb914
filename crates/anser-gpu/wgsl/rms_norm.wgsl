// out = x / √(mean of x² + eps) ∘ weight: one workgroup per row. Follows reduce/*.wgsl.

override N_COLS: u32; // C
override EPS: f32;

@group(0) @binding(0) var<storage, read> x: array<f32>;      // [·, C]
@group(0) @binding(1) var<storage, read> weight: array<f32>; // [C]
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [·, C]

fn run(workgroup: vec3<u32>, local: u32) {
    let row = workgroup.x * N_COLS;
    var squares = 0.0;
    for (var c = local; c < N_COLS; c += WORKGROUP) {
        squares += x[row + c] * x[row + c];
    }
    let scale = inverseSqrt(workgroup_sum(squares, local) / f32(N_COLS) + EPS);
    for (var c = local; c < N_COLS; c += WORKGROUP) {
        out[row + c] = x[row + c] * scale * weight[c];
    }
}
