// out = residual + activation(x): one invocation per element, bound by the bytes that it reads and writes. Follows matmul/activation.wgsl.

override N_COLS: u32;
override ACTIVATION: u32;
override HAS_RESIDUAL: bool;

@group(0) @binding(0) var<storage, read> x: array<f32>;         // [T, n]
@group(0) @binding(1) var<storage, read> residual: array<f32>;  // [T, n]
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [T, n]

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N_COLS {
        return;
    }
    let i = id.y * N_COLS + id.x;
    out[i] = activation(x[i], ACTIVATION) + select(0.0, residual[i], HAS_RESIDUAL);
}
