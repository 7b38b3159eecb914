// out = epilogue(x · weightᵀ) by tiles in workgroup memory: each weight is decoded once per TILE_N tokens.
//
// A workgroup of THREADS_M × THREADS_N threads computes 8·THREADS_M weight rows × 8·THREADS_N tokens, a thread every
// THREADS_M-th row and every THREADS_N-th token. Workgroups along x cover the tokens, along y the rows: those that share
// weights run at the same time. A step covers one piece of 16 columns. Follows matmul/tile_rows.wgsl or matmul/tile_panels.wgsl.

override THREADS_M: u32;
override THREADS_N: u32;

override WORKGROUP: u32 = THREADS_M * THREADS_N;
override TILE_M: u32 = 8u * THREADS_M;
override TILE_N: u32 = 8u * THREADS_N;
override N_WEIGHT_TILE: u32 = 4u * TILE_M;
override N_INPUT_TILE: u32 = 4u * TILE_N;

var<workgroup> weight_tile: array<TileVec, N_WEIGHT_TILE>; // [TILE_M, 4]
var<workgroup> input_tile: array<TileVec, N_INPUT_TILE>;   // [TILE_N, 4]

// Index of four columns of a tile's row; the order within a row differs from row to row to spread them over the
// memory's banks.
fn tile_index(row: u32, column4: u32) -> u32 {
    return 4u * row + (column4 ^ (row / 2u % 4u));
}

fn fill_input(row: u32, values: Piece) {
    input_tile[tile_index(row, 0u)] = tile_vec(values.a);
    input_tile[tile_index(row, 1u)] = tile_vec(values.b);
    input_tile[tile_index(row, 2u)] = tile_vec(values.c);
    input_tile[tile_index(row, 3u)] = tile_vec(values.d);
}

fn tile_weights(row: u32, column4: u32) -> vec4<f32> {
    return vec4<f32>(weight_tile[tile_index(row, column4)]);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first_row = workgroup.y * TILE_M;
    let first_token = workgroup.x * TILE_N;
    let m = local % THREADS_M;
    let n = local / THREADS_M;

    // Sums of the thread's rows 0..4 and 4..8, for each of its tokens.
    var low: array<vec4<f32>, 8>;
    var high: array<vec4<f32>, 8>;
    for (var piece = 0u; piece < N_PIECES; piece++) {
        fill_weights(first_row, piece, local);
        for (var i = local; i < TILE_N; i += WORKGROUP) {
            fill_input(i, input(min(first_token + i, n_tokens() - 1u), piece));
        }
        workgroupBarrier();
        for (var k = 0u; k < 4u; k++) {
            let w_low = mat4x4<f32>(
                tile_weights(m, k),
                tile_weights(m + THREADS_M, k),
                tile_weights(m + 2u * THREADS_M, k),
                tile_weights(m + 3u * THREADS_M, k),
            );
            let w_high = mat4x4<f32>(
                tile_weights(m + 4u * THREADS_M, k),
                tile_weights(m + 5u * THREADS_M, k),
                tile_weights(m + 6u * THREADS_M, k),
                tile_weights(m + 7u * THREADS_M, k),
            );
            for (var j = 0u; j < 8u; j++) {
                let x4 = vec4<f32>(input_tile[tile_index(n + j * THREADS_N, k)]);
                low[j] += x4 * w_low;
                high[j] += x4 * w_high;
            }
        }
        workgroupBarrier();
    }

    for (var j = 0u; j < 8u; j++) {
        let token = first_token + n + j * THREADS_N;
        for (var i = 0u; i < 4u; i++) {
            store(first_row + m + i * THREADS_M, token, low[j][i]);
            store(first_row + m + (i + 4u) * THREADS_M, token, high[j][i]);
        }
    }
}

fn store(row: u32, token: u32, sum: f32) {
    if row < target_rows.n_rows && token < n_tokens() {
        out[out_index(row, token)] = load_residual(row, token) + activate(sum + load_bias(row));
    }
}
