// out = (x − mean) / √(variance + eps) ∘ weight + bias: one workgroup per row. Follows reduce/*.wgsl.

override N_COLS: u32; // C
override EPS: f32;

@group(0) @binding(0) var<storage, read> x: array<f32>;      // [·, C]
@group(0) @binding(1) var<storage, read> weight: array<f32>; // [C]
@group(0) @binding(2) var<storage, read> bias: array<f32>;   // [C]
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [·, C]

fn run(workgroup: vec3<u32>, local: u32) {
    let row = workgroup.x * N_COLS;
    var sum = 0.0;
    for (var c = local; c < N_COLS; c += WORKGROUP) {
        sum += x[row + c];
    }
    let mean = workgroup_sum(sum, local) / f32(N_COLS);

    // A second pass over the row: the mean of squares minus the square of the mean would cancel.
    var squares = 0.0;
    for (var c = local; c < N_COLS; c += WORKGROUP) {
        let d = x[row + c] - mean;
        squares += d * d;
    }
    let scale = inverseSqrt(workgroup_sum(squares, local) / f32(N_COLS) + EPS);
    for (var c = local; c < N_COLS; c += WORKGROUP) {
        out[row + c] = (x[row + c] - mean) * scale * weight[c] + bias[c];
    }
}
