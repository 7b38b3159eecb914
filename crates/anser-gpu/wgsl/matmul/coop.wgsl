// out = epilogue(x · weightᵀ) by cooperative matrices: f16 operands, f32 sums.
//
// A workgroup computes TILE_M weight rows × TILE_N tokens; its subgroups lie in a grid of SUBGROUPS_M × SUBGROUPS_N, each
// with 4 × FRAGMENTS_N matrices of SIDE × SIDE. Workgroups along x cover the tokens, along y the rows:
// those that share weights run at the same time.
//
// A step covers 32 columns (two pieces). While the subgroups multiply the tiles of one step, each thread already waits
// for its share of the next, which then goes to the other half of workgroup memory.

@group(0) @binding(1) var<storage, read> halves: array<vec4<f16>>; // x, [T, N_PIECES, 4], see halve.wgsl

override SUBGROUP_LEN: u32; // threads of a subgroup
override SUBGROUPS_M: u32;
override SUBGROUPS_N: u32;
override FRAGMENTS_N: u32; // 1, 2 or 4

override WORKGROUP: u32 = SUBGROUP_LEN * SUBGROUPS_M * SUBGROUPS_N; // at least TILE_M and TILE_N
override TILE_M: u32 = 4u * SIDE * SUBGROUPS_M;
override TILE_N: u32 = FRAGMENTS_N * SIDE * SUBGROUPS_N;
override N_STEPS: u32 = (N_PIECES + 1u) / 2u;

const PITCH: u32 = 10u; // vec4s from a tile's row to the next: 8, and 2 to spread the rows over the memory's banks

var<workgroup> weight_tile: array<vec4<f16>, 2u * TILE_M * PITCH>; // [2, TILE_M, PITCH]
var<workgroup> input_tile: array<vec4<f16>, 2u * TILE_N * PITCH>;  // [2, TILE_N, PITCH]
var<workgroup> staging: array<f32, SUBGROUPS_M * SUBGROUPS_N * SIDE * SIDE>;

struct HalfPiece {
    a: vec4<f16>,
    b: vec4<f16>,
    c: vec4<f16>,
    d: vec4<f16>,
}

// Piece of step `s` that a thread's `i`-th share is in.
fn step_piece(s: u32, i: u32) -> u32 {
    return 2u * s + i % 2u;
}

fn fetch_weights(first_row: u32, s: u32, i: u32) -> Unit {
    let row = min(first_row + i / 2u, target_rows.n_rows - 1u);
    return load_unit(row * ROW_LEN, piece_unit(min(step_piece(s, i), N_PIECES - 1u)).u);
}

fn fetch_input(first_token: u32, s: u32, i: u32) -> HalfPiece {
    let token = min(first_token + i / 2u, n_tokens() - 1u);
    let at = 4u * (token * N_PIECES + min(step_piece(s, i), N_PIECES - 1u));
    return HalfPiece(halves[at], halves[at + 1u], halves[at + 2u], halves[at + 3u]);
}

// The last step of an odd number of pieces has half a tile of zeros.
fn is_beyond(piece: u32) -> bool {
    return N_PIECES % 2u != 0u && piece >= N_PIECES;
}

fn commit_weights(unit: Unit, s: u32, i: u32) {
    let piece = step_piece(s, i);
    let at = piece_unit(piece);
    var values = unit_halves(unit, at.u, at.p);
    if is_beyond(piece) {
        values = HalfPiece();
    }
    let to = (s % 2u * TILE_M + i / 2u) * PITCH + 4u * (i % 2u);
    weight_tile[to] = values.a;
    weight_tile[to + 1u] = values.b;
    weight_tile[to + 2u] = values.c;
    weight_tile[to + 3u] = values.d;
}

fn commit_input(fetched: HalfPiece, s: u32, i: u32) {
    var values = fetched;
    if is_beyond(step_piece(s, i)) {
        values = HalfPiece();
    }
    let to = (s % 2u * TILE_N + i / 2u) * PITCH + 4u * (i % 2u);
    input_tile[to] = values.a;
    input_tile[to + 1u] = values.b;
    input_tile[to + 2u] = values.c;
    input_tile[to + 3u] = values.d;
}

// Writes a matrix whose corner is (row, token), through workgroup memory: its elements' places are known there only.
fn store_fragment(fragment: MatC, subgroup: u32, lane: u32, row: u32, token: u32) {
    let start = subgroup * SIDE * SIDE;
    coopStore(fragment, &staging[start], SIDE);
    workgroupBarrier();
    for (var i = lane; i < SIDE * SIDE; i += SUBGROUP_LEN) {
        let r = row + i % SIDE;
        let t = token + i / SIDE;
        if r < target_rows.n_rows && t < n_tokens() {
            out[out_index(r, t)] = load_residual(r, t) + activate(staging[start + i] + load_bias(r));
        }
    }
    workgroupBarrier();
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let first_row = workgroup.y * TILE_M;
    let first_token = workgroup.x * TILE_N;
    // Corner of the subgroup's part of the tile.
    let m = subgroup / SUBGROUPS_N * 4u * SIDE;
    let n = subgroup % SUBGROUPS_N * FRAGMENTS_N * SIDE;

    // Sums of fragment column 0, 1, 2, 3.
    var c00 = MatC();
    var c10 = MatC();
    var c20 = MatC();
    var c30 = MatC();
    var c01 = MatC();
    var c11 = MatC();
    var c21 = MatC();
    var c31 = MatC();
    var c02 = MatC();
    var c12 = MatC();
    var c22 = MatC();
    var c32 = MatC();
    var c03 = MatC();
    var c13 = MatC();
    var c23 = MatC();
    var c33 = MatC();

    // This thread's share of a step: one or two pieces of weights and of input.
    let second = local + WORKGROUP;
    var w0 = fetch_weights(first_row, 0u, local);
    var w1 = w0;
    if 2u * TILE_M > WORKGROUP {
        w1 = fetch_weights(first_row, 0u, second);
    }
    var x0 = fetch_input(first_token, 0u, local);
    var x1 = x0;
    if 2u * TILE_N > WORKGROUP {
        x1 = fetch_input(first_token, 0u, second);
    }

    for (var s = 0u; s < N_STEPS; s++) {
        if 2u * TILE_M >= WORKGROUP || local < 2u * TILE_M {
            commit_weights(w0, s, local);
        }
        if 2u * TILE_M > WORKGROUP {
            commit_weights(w1, s, second);
        }
        if 2u * TILE_N >= WORKGROUP || local < 2u * TILE_N {
            commit_input(x0, s, local);
        }
        if 2u * TILE_N > WORKGROUP {
            commit_input(x1, s, second);
        }
        workgroupBarrier();

        if s + 1u < N_STEPS {
            w0 = fetch_weights(first_row, s + 1u, local);
            if 2u * TILE_M > WORKGROUP {
                w1 = fetch_weights(first_row, s + 1u, second);
            }
            x0 = fetch_input(first_token, s + 1u, local);
            if 2u * TILE_N > WORKGROUP {
                x1 = fetch_input(first_token, s + 1u, second);
            }
        }

        for (var k = 0u; k < 32u; k += SIDE) {
            let at = (s % 2u * TILE_M + m) * PITCH + k / 4u;
            let a0 = coopLoadT<MatA>(&weight_tile[at], PITCH);
            let a1 = coopLoadT<MatA>(&weight_tile[at + SIDE * PITCH], PITCH);
            let a2 = coopLoadT<MatA>(&weight_tile[at + 2u * SIDE * PITCH], PITCH);
            let a3 = coopLoadT<MatA>(&weight_tile[at + 3u * SIDE * PITCH], PITCH);
            let bt = (s % 2u * TILE_N + n) * PITCH + k / 4u;
            let b0 = coopLoad<MatB>(&input_tile[bt], PITCH);
            c00 = coopMultiplyAdd(a0, b0, c00);
            c10 = coopMultiplyAdd(a1, b0, c10);
            c20 = coopMultiplyAdd(a2, b0, c20);
            c30 = coopMultiplyAdd(a3, b0, c30);
            if FRAGMENTS_N > 1u {
                let b1 = coopLoad<MatB>(&input_tile[bt + SIDE * PITCH], PITCH);
                c01 = coopMultiplyAdd(a0, b1, c01);
                c11 = coopMultiplyAdd(a1, b1, c11);
                c21 = coopMultiplyAdd(a2, b1, c21);
                c31 = coopMultiplyAdd(a3, b1, c31);
            }
            if FRAGMENTS_N > 2u {
                let b2 = coopLoad<MatB>(&input_tile[bt + 2u * SIDE * PITCH], PITCH);
                c02 = coopMultiplyAdd(a0, b2, c02);
                c12 = coopMultiplyAdd(a1, b2, c12);
                c22 = coopMultiplyAdd(a2, b2, c22);
                c32 = coopMultiplyAdd(a3, b2, c32);
                let b3 = coopLoad<MatB>(&input_tile[bt + 3u * SIDE * PITCH], PITCH);
                c03 = coopMultiplyAdd(a0, b3, c03);
                c13 = coopMultiplyAdd(a1, b3, c13);
                c23 = coopMultiplyAdd(a2, b3, c23);
                c33 = coopMultiplyAdd(a3, b3, c33);
            }
        }
    }

    let row = first_row + m;
    let token = first_token + n;
    store_fragment(c00, subgroup, lane, row, token);
    store_fragment(c10, subgroup, lane, row + SIDE, token);
    store_fragment(c20, subgroup, lane, row + 2u * SIDE, token);
    store_fragment(c30, subgroup, lane, row + 3u * SIDE, token);
    if FRAGMENTS_N > 1u {
        store_fragment(c01, subgroup, lane, row, token + SIDE);
        store_fragment(c11, subgroup, lane, row + SIDE, token + SIDE);
        store_fragment(c21, subgroup, lane, row + 2u * SIDE, token + SIDE);
        store_fragment(c31, subgroup, lane, row + 3u * SIDE, token + SIDE);
    }
    if FRAGMENTS_N > 2u {
        store_fragment(c02, subgroup, lane, row, token + 2u * SIDE);
        store_fragment(c12, subgroup, lane, row + SIDE, token + 2u * SIDE);
        store_fragment(c22, subgroup, lane, row + 2u * SIDE, token + 2u * SIDE);
        store_fragment(c32, subgroup, lane, row + 3u * SIDE, token + 2u * SIDE);
        store_fragment(c03, subgroup, lane, row, token + 3u * SIDE);
        store_fragment(c13, subgroup, lane, row + SIDE, token + 3u * SIDE);
        store_fragment(c23, subgroup, lane, row + 2u * SIDE, token + 3u * SIDE);
        store_fragment(c33, subgroup, lane, row + 3u * SIDE, token + 3u * SIDE);
    }
}
