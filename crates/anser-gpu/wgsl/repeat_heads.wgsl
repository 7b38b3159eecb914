// out: every head of x as often as out has heads for one of x's, next to each other. One invocation per element of out.

override N_COLS: u32;    // C
override N_COLS_IN: u32; // columns of x, a divisor of C
override HEAD_SIZE: u32; // N

@group(0) @binding(0) var<storage, read> x: array<f32>;         // [T, N_COLS_IN]
@group(0) @binding(1) var<storage, read_write> out: array<f32>; // [T, C]

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N_COLS {
        return;
    }
    let head = id.x / HEAD_SIZE / (N_COLS / N_COLS_IN);
    out[id.y * N_COLS + id.x] = x[id.y * N_COLS_IN + head * HEAD_SIZE + id.x % HEAD_SIZE];
}
