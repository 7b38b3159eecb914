// outⱼ = Σᵢ xᵢ·matrixᵢⱼ, with a matrix of every token's own: one invocation per element.

override N_COLS: u32; // n

@group(0) @binding(0) var<storage, read> x: array<f32>;         // [T, n]
@group(0) @binding(1) var<storage, read> matrix: array<f32>;    // [T, n, n]
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [T, n]

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let j = id.x;
    let t = id.y;
    if j >= N_COLS {
        return;
    }
    var sum = 0.0;
    for (var i = 0u; i < N_COLS; i++) {
        sum += x[t * N_COLS + i] * matrix[(t * N_COLS + i) * N_COLS + j];
    }
    out[t * N_COLS + j] = sum;
}
