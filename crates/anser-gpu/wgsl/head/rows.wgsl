// Rows of the state S [N, N] (value row, key column) of a head in registers. N_LANES threads share a row. Follows lanes/*.wgsl
// and head/state_vec4.wgsl.

override HEAD_SIZE: u32; // N

override QUADS: u32 = 4u;                  // vec4s of a row in one thread, at most MAX_QUADS
override ROW_QUADS: u32 = N_LANES * QUADS; // vec4s of a row, padded with zeros

const MAX_QUADS: u32 = 4u;

var<private> s: array<vec4<f32>, MAX_QUADS>; // columns 4·(i·N_LANES + lane) and the next three

fn load_row(row: u32, lane: u32) {
    for (var i = 0u; i < QUADS; i++) {
        s[i] = load_quad(row, i * N_LANES + lane);
    }
}

fn clear_row() {
    for (var i = 0u; i < QUADS; i++) {
        s[i] = vec4<f32>(0.0);
    }
}

fn store_row(row: u32, lane: u32) {
    for (var i = 0u; i < QUADS; i++) {
        store_quad(row, i * N_LANES + lane, s[i]);
    }
}

fn sum4(x: vec4<f32>) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}
