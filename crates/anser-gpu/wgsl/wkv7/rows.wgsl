// Rows of the state S [N, N] (value row, key column) of a head in registers. A row is spread over N_LANES invocations.
//
// A kernel file that follows stages a token's operands in workgroup memory: `staged_r` and so on, ROW_QUADS vec4s of
// columns, padded with zeros, from `first`. Follows lanes/*.wgsl.

override HEAD_SIZE: u32; // N

const QUADS: u32 = 4u;                     // vec4s of a row in one invocation
override ROW_QUADS: u32 = N_LANES * QUADS; // vec4s of a row, padded with zeros

var<private> s: array<vec4<f32>, QUADS>; // columns 4·(i·N_LANES + lane) and the next three

// `first` is the element of S where the row starts.
fn load_row(first: u32, lane: u32, is_there: bool) {
    for (var i = 0u; i < QUADS; i++) {
        s[i] = vec4<f32>(0.0);
        let column = (i * N_LANES + lane) * 4u;
        for (var j = 0u; j < 4u; j++) {
            if is_there && column + j < HEAD_SIZE {
                s[i][j] = state[first + column + j];
            }
        }
    }
}

fn store_row(first: u32, lane: u32, is_there: bool) {
    for (var i = 0u; i < QUADS; i++) {
        let column = (i * N_LANES + lane) * 4u;
        for (var j = 0u; j < 4u; j++) {
            if is_there && column + j < HEAD_SIZE {
                state[first + column + j] = s[i][j];
            }
        }
    }
}

// One token: S ← S·diag(w) − (S·kk)(kk ∘ a)ᵀ + v kᵀ; the row's element of S·r. The whole workgroup must call it.
fn advance_row(first: u32, index: u32, v: f32) -> f32 {
    let at = first + index % N_LANES;
    var removed = vec4<f32>(0.0);
    for (var i = 0u; i < QUADS; i++) {
        removed += s[i] * staged_kk[at + i * N_LANES];
    }
    let s_kk = lanes_sum(dot(removed, vec4<f32>(1.0)), index);
    var y = vec4<f32>(0.0);
    for (var i = 0u; i < QUADS; i++) {
        let q = at + i * N_LANES;
        s[i] = s[i] * staged_w[q] - s_kk * staged_b[q] + v * staged_k[q];
        y += s[i] * staged_r[q];
    }
    return lanes_sum(dot(y, vec4<f32>(1.0)), index);
}
