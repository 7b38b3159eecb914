// out = the rows of x that the step wants outputs for: one invocation per element.

override N_COLS: u32; // C

@group(0) @binding(0) var<storage, read> outputs: array<u32>;   // [O] rows of x
@group(0) @binding(1) var<storage, read> x: array<f32>;         // [T, C]
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [O, C]

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N_COLS {
        return;
    }
    out[id.y * N_COLS + id.x] = x[outputs[id.y] * N_COLS + id.x];
}
