// x · weightᵀ by matrices of 16 × 16: f16 operands, f32 sums.
//
// A workgroup computes TILE_M weight rows × TILE_N tokens; its subgroups lie in a grid of SUBGROUPS_M × SUBGROUPS_N, each
// with FRAGMENTS_M × FRAGMENTS_N matrices of 16 × 16. Workgroups along x cover the tokens, along y the rows: those that
// share weights run at the same time. Along z they share the columns, if there are too few of them otherwise.
//
// A step covers K_STEP columns. While the subgroups multiply the tiles of one step, each thread already waits for its
// share of the next. Follows gemm/matrices_*.wgsl, which has the matrices and the entry point, gemm/weights_*.wgsl, which
// fetches the weights, gemm/tile_rows.wgsl unless they lie in panels, and gemm/out_*.wgsl, which takes the sums.

@group(0) @binding(1) var<storage, read> input: array<vec4<u32>>; // x in halves, [T, ROW_CHUNKS], see halve.wgsl

override SUBGROUP_LEN: u32; // threads of a subgroup
override SUBGROUPS_M: u32;
override SUBGROUPS_N: u32;
override FRAGMENTS_M: u32; // 1, 2, 4 or 5
override FRAGMENTS_N: u32; // 1 or 2
override K_STEP: u32;      // a multiple of 16
override N_SPLITS: u32;    // workgroups that share the columns; each has at least one step

override WORKGROUP: u32 = SUBGROUP_LEN * SUBGROUPS_M * SUBGROUPS_N;
override TILE_M: u32 = 16u * FRAGMENTS_M * SUBGROUPS_M;
override TILE_N: u32 = 16u * FRAGMENTS_N * SUBGROUPS_N;
override ROW_CHUNKS: u32 = 2u * N_PIECES;
override STEP_CHUNKS: u32 = K_STEP / 8u;
override N_STEPS: u32 = (ROW_CHUNKS + STEP_CHUNKS - 1u) / STEP_CHUNKS;
override SPLIT_STEPS: u32 = (N_STEPS + N_SPLITS - 1u) / N_SPLITS;
override SHARES_N: u32 = TILE_N * STEP_CHUNKS / WORKGROUP; // chunks of input that a thread has of a step, 1, 2 or 4
override SHARE_ROWS: u32 = WORKGROUP / STEP_CHUNKS;        // rows from one of a thread's chunks to the next

// From a tile's row to the next: two vec4s more than it has, to spread the rows over the memory's banks.
override PITCH: u32 = K_STEP / 4u + 2u;

override N_WEIGHT_TILE: u32 = TILE_M * PITCH;
override N_INPUT_TILE: u32 = TILE_N * PITCH;
var<workgroup> weight_tile: array<vec4<f16>, N_WEIGHT_TILE>; // [TILE_M, PITCH], or columns of rows
var<workgroup> input_tile: array<vec4<f16>, N_INPUT_TILE>;   // [TILE_N, PITCH]

// A thread's chunks of a step, each of eight halves. Memory is read 16 bytes at a time, which WGSL has no vector of halves for.
struct Chunks {
    c0: vec4<u32>,
    c1: vec4<u32>,
    c2: vec4<u32>,
    c3: vec4<u32>,
    c4: vec4<u32>,
}

fn first_halves(chunk: vec4<u32>) -> vec4<f16> {
    return vec4<f16>(vec4<f32>(unpack2x16float(chunk.x), unpack2x16float(chunk.y)));
}

fn last_halves(chunk: vec4<u32>) -> vec4<f16> {
    return vec4<f16>(vec4<f32>(unpack2x16float(chunk.z), unpack2x16float(chunk.w)));
}

// Where a step's chunk lies from the start of a row; the last step may end beyond the row.
fn chunk_at(s: u32, local: u32) -> u32 {
    let chunk = s * STEP_CHUNKS + local % STEP_CHUNKS;
    if ROW_CHUNKS % STEP_CHUNKS != 0u {
        return min(chunk, ROW_CHUNKS - 1u);
    }
    return chunk;
}

fn is_beyond(s: u32, local: u32) -> bool {
    return ROW_CHUNKS % STEP_CHUNKS != 0u && s * STEP_CHUNKS + local % STEP_CHUNKS >= ROW_CHUNKS;
}

// Where a thread's chunks begin.
struct Starts {
    first: vec4<u32>,
    fifth: u32,
}

// The starts of the rows that a thread's chunks are in.
fn share_rows(first: u32, n: u32, local: u32) -> Starts {
    let row = first + local / STEP_CHUNKS;
    let rows = vec4<u32>(row, row + SHARE_ROWS, row + 2u * SHARE_ROWS, row + 3u * SHARE_ROWS);
    return Starts(min(rows, vec4<u32>(n - 1u)) * ROW_CHUNKS, min(row + 4u * SHARE_ROWS, n - 1u) * ROW_CHUNKS);
}

fn fetch_input(rows: vec4<u32>, at: u32) -> Chunks {
    var chunks = Chunks();
    chunks.c0 = input[rows.x + at];
    if SHARES_N > 1u {
        chunks.c1 = input[rows.y + at];
    }
    if SHARES_N > 2u {
        chunks.c2 = input[rows.z + at];
        chunks.c3 = input[rows.w + at];
    }
    return chunks;
}

fn put_input(chunk: vec4<u32>, at: u32) {
    input_tile[at] = first_halves(chunk);
    input_tile[at + 1u] = last_halves(chunk);
}

// Writes the thread's share of step `s` to workgroup memory.
fn commit_input(fetched: Chunks, s: u32, local: u32) {
    var x = fetched;
    if is_beyond(s, local) {
        x = Chunks();
    }
    let at = local / STEP_CHUNKS * PITCH + 2u * (local % STEP_CHUNKS);
    put_input(x.c0, at);
    if SHARES_N > 1u {
        put_input(x.c1, at + SHARE_ROWS * PITCH);
    }
    if SHARES_N > 2u {
        put_input(x.c2, at + 2u * SHARE_ROWS * PITCH);
        put_input(x.c3, at + 3u * SHARE_ROWS * PITCH);
    }
}

// Where a subgroup's matrices are.
struct Corner {
    row: u32, // of their corner
    token: u32,
    split: u32,
    subgroup: u32,
    lane: u32,
}

// `subgroup` is the number of the thread's subgroup, `lane` that of the thread in it.
fn run(workgroup: vec3<u32>, local: u32, subgroup: u32, lane: u32) {
    let first_row = workgroup.y * TILE_M;
    let first_token = workgroup.x * TILE_N;
    // Corner of the subgroup's part of the tile.
    let m = subgroup / SUBGROUPS_N * 16u * FRAGMENTS_M;
    let n = subgroup % SUBGROUPS_N * 16u * FRAGMENTS_N;
    let place = Corner(first_row + m, first_token + n, workgroup.z, subgroup, lane);
    // Whether the sums go to memory as they are.
    let is_plain = (epilogue() & (ACTIVATION_MASK | HAS_BIAS)) == 0u;
    let is_whole = first_row + TILE_M <= target_rows.n_rows && first_token + TILE_N <= n_tokens();
    let is_aligned = (target_rows.n_total | target_rows.first) % 4u == 0u;
    let is_direct = TAKES_ALL_MATRICES || (TAKES_MATRICES && is_plain && is_whole && is_aligned);

    // Sums of 16 rows, 0 to 4, for the first and the second 16 tokens.
    var c00 = MatC();
    var c10 = MatC();
    var c20 = MatC();
    var c30 = MatC();
    var c40 = MatC();
    var c01 = MatC();
    var c11 = MatC();
    var c21 = MatC();
    var c31 = MatC();
    var c41 = MatC();
    if !TAKES_ALL_MATRICES && is_direct && (epilogue() & HAS_RESIDUAL) != 0u {
        c00 = load_residuals(place, 0u, 0u);
        if FRAGMENTS_M > 1u {
            c10 = load_residuals(place, 1u, 0u);
        }
        if FRAGMENTS_M > 2u {
            c20 = load_residuals(place, 2u, 0u);
            c30 = load_residuals(place, 3u, 0u);
        }
        if FRAGMENTS_M > 4u {
            c40 = load_residuals(place, 4u, 0u);
        }
        if FRAGMENTS_N > 1u {
            c01 = load_residuals(place, 0u, 1u);
            if FRAGMENTS_M > 1u {
                c11 = load_residuals(place, 1u, 1u);
            }
            if FRAGMENTS_M > 2u {
                c21 = load_residuals(place, 2u, 1u);
                c31 = load_residuals(place, 3u, 1u);
            }
            if FRAGMENTS_M > 4u {
                c41 = load_residuals(place, 4u, 1u);
            }
        }
    }

    let weight_rows = weight_rows(first_row, local);
    let input_rows = share_rows(first_token, n_tokens(), local).first;
    let first_step = workgroup.z * SPLIT_STEPS;
    let end = min(first_step + SPLIT_STEPS, N_STEPS);
    var w = fetch_weights(weight_rows, first_step, local);
    var x = fetch_input(input_rows, chunk_at(first_step, local));
    for (var s = first_step; s < end; s++) {
        workgroupBarrier(); // all threads are done with the step before
        commit_weights(w, s, local);
        commit_input(x, s, local);
        workgroupBarrier();
        if s + 1u < end {
            w = fetch_weights(weight_rows, s + 1u, local);
            x = fetch_input(input_rows, chunk_at(s + 1u, local));
        }
        for (var k = 0u; k < K_STEP / 4u; k += 4u) {
            let a0 = load_input(n * PITCH + k);
            var a1 = a0;
            if FRAGMENTS_N > 1u {
                a1 = load_input((n + 16u) * PITCH + k);
            }
            let b0 = weight_matrix(m, k);
            c00 = coopMultiplyAdd(a0, b0, c00);
            if FRAGMENTS_N > 1u {
                c01 = coopMultiplyAdd(a1, b0, c01);
            }
            if FRAGMENTS_M > 1u {
                let b1 = weight_matrix(m + 16u, k);
                c10 = coopMultiplyAdd(a0, b1, c10);
                if FRAGMENTS_N > 1u {
                    c11 = coopMultiplyAdd(a1, b1, c11);
                }
            }
            if FRAGMENTS_M > 2u {
                let b2 = weight_matrix(m + 32u, k);
                c20 = coopMultiplyAdd(a0, b2, c20);
                if FRAGMENTS_N > 1u {
                    c21 = coopMultiplyAdd(a1, b2, c21);
                }
                let b3 = weight_matrix(m + 48u, k);
                c30 = coopMultiplyAdd(a0, b3, c30);
                if FRAGMENTS_N > 1u {
                    c31 = coopMultiplyAdd(a1, b3, c31);
                }
            }
            if FRAGMENTS_M > 4u {
                let b4 = weight_matrix(m + 64u, k);
                c40 = coopMultiplyAdd(a0, b4, c40);
                if FRAGMENTS_N > 1u {
                    c41 = coopMultiplyAdd(a1, b4, c41);
                }
            }
        }
    }

    if is_direct {
        write_matrix(c00, place, 0u, 0u);
        if FRAGMENTS_M > 1u {
            write_matrix(c10, place, 1u, 0u);
        }
        if FRAGMENTS_M > 2u {
            write_matrix(c20, place, 2u, 0u);
            write_matrix(c30, place, 3u, 0u);
        }
        if FRAGMENTS_M > 4u {
            write_matrix(c40, place, 4u, 0u);
        }
        if FRAGMENTS_N > 1u {
            write_matrix(c01, place, 0u, 1u);
            if FRAGMENTS_M > 1u {
                write_matrix(c11, place, 1u, 1u);
            }
            if FRAGMENTS_M > 2u {
                write_matrix(c21, place, 2u, 1u);
                write_matrix(c31, place, 3u, 1u);
            }
            if FRAGMENTS_M > 4u {
                write_matrix(c41, place, 4u, 1u);
            }
        }
    } else {
        finish(c00, place, 0u, 0u);
        if FRAGMENTS_M > 1u {
            finish(c10, place, 1u, 0u);
        }
        if FRAGMENTS_M > 2u {
            finish(c20, place, 2u, 0u);
            finish(c30, place, 3u, 0u);
        }
        if FRAGMENTS_M > 4u {
            finish(c40, place, 4u, 0u);
        }
        if FRAGMENTS_N > 1u {
            finish(c01, place, 0u, 1u);
            if FRAGMENTS_M > 1u {
                finish(c11, place, 1u, 1u);
            }
            if FRAGMENTS_M > 2u {
                finish(c21, place, 2u, 1u);
                finish(c31, place, 3u, 1u);
            }
            if FRAGMENTS_M > 4u {
                finish(c41, place, 4u, 1u);
            }
        }
    }
}
