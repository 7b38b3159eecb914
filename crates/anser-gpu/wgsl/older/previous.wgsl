// out = the row of the sequence's previous token, or the state for its first. One invocation per element. Follows step.wgsl.

override N_COLS: u32; // C

@group(0) @binding(0) var<storage, read> tokens: array<Token>;  // [T]
@group(0) @binding(1) var<storage, read> x: array<f32>;         // [T, C]
@group(0) @binding(2) var<storage, read> state: array<f32>;     // [slots, 2, C]
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [T, C]

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    let t = id.y;
    if c >= N_COLS {
        return;
    }
    let token = tokens[t];
    var previous = 0.0;
    if token.previous == PREVIOUS_ROW {
        previous = x[(t - 1u) * N_COLS + c];
    } else if token.previous == PREVIOUS_STATE {
        previous = state[(token.slot * 2u + token.half) * N_COLS + c];
    }
    out[t * N_COLS + c] = previous;
}
