// Rows of the state S [N, N] (value row, key column) of a head in registers. A row is spread over N_LANES invocations.
//
// A kernel file that follows stages a token's operands in workgroup memory: `staged_r` and so on, ROW_QUADS vec4s of
// columns, padded with zeros. Follows lanes/*.wgsl and wkv7/state_*.wgsl.

override HEAD_SIZE: u32; // N

override QUADS: u32 = 4u;                  // vec4s of a row in one invocation, at most MAX_QUADS
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

// One token, whose operands are staged from quad `first`: S ← S·diag(w) − (S·kk)(kk ∘ a)ᵀ + v kᵀ. Returns the row's
// element of S·r. The whole workgroup must call it.
fn advance_row(first: u32, index: u32, v: f32) -> f32 {
    return advance_row_scaled(first, index, v, 1.0);
}

// The same for staged kk and kk ∘ a whose product has to be multiplied by `scale`.
fn advance_row_scaled(first: u32, index: u32, v: f32, scale: f32) -> f32 {
    let at = first + index % N_LANES;
    var removed = vec4<f32>(0.0);
    for (var i = 0u; i < QUADS; i++) {
        removed += s[i] * staged_kk[at + i * N_LANES];
    }
    let s_kk = scale * lanes_sum(sum4(removed), index);
    var y = vec4<f32>(0.0);
    for (var i = 0u; i < QUADS; i++) {
        let q = at + i * N_LANES;
        s[i] = s[i] * staged_w[q] - s_kk * staged_b[q] + v * staged_k[q];
        y += s[i] * staged_r[q];
    }
    return lanes_sum(sum4(y), index);
}
