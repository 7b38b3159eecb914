// The recurrence of RWKV-7. Per head and token, with the head's state S [N, N] (value row, key column):
// S ← S·diag(w) − (S·kk)(kk ∘ a)ᵀ + v kᵀ, then out = S·r.
//
// Rows of S do not depend on each other: a workgroup takes some rows of one head of one sequence through all its tokens.
// The tokens' operands, which all rows need, are staged in workgroup memory, BLOCK_LEN tokens at a time. Follows
// step.wgsl, lanes/*.wgsl and wkv7/rows.wgsl.

override N_COLS: u32; // C
override BLOCK_LEN: u32;

override N_ROWS: u32 = WORKGROUP / N_LANES; // rows of a workgroup
override N_STAGED: u32 = BLOCK_LEN * ROW_QUADS;
override N_STAGED_V: u32 = BLOCK_LEN * N_ROWS;

@group(0) @binding(0) var<storage, read> sequences: array<Sequence>; // [B]
@group(0) @binding(1) var<storage, read> r: array<f32>;             // [T, C]
@group(0) @binding(2) var<storage, read> w: array<f32>;             // [T, C]
@group(0) @binding(3) var<storage, read> k: array<f32>;             // [T, C]
@group(0) @binding(4) var<storage, read> v: array<f32>;             // [T, C]
@group(0) @binding(5) var<storage, read> kk: array<f32>;            // [T, C]
@group(0) @binding(6) var<storage, read> a: array<f32>;             // [T, C]
@group(0) @binding(7) var<storage, read_write> state: array<f32>;   // [slots, H, N, N]
@group(0) @binding(8) var<storage, read_write> out: array<f32>;     // [T, C]

var<workgroup> staged_r: array<vec4<f32>, N_STAGED>;
var<workgroup> staged_w: array<vec4<f32>, N_STAGED>;
var<workgroup> staged_k: array<vec4<f32>, N_STAGED>;
var<workgroup> staged_kk: array<vec4<f32>, N_STAGED>;
var<workgroup> staged_b: array<vec4<f32>, N_STAGED>; // kk ∘ a
var<workgroup> staged_v: array<f32, N_STAGED_V>;

fn run(workgroup: vec3<u32>, index: u32) {
    let head = workgroup.x * HEAD_SIZE;
    let first_row = workgroup.y * N_ROWS;
    let sequence = sequences[workgroup.z];
    let row = first_row + index / N_LANES;
    let lane = index % N_LANES;
    let is_row = row < HEAD_SIZE;
    let state_row = (sequence.slot * N_COLS + head + row) * HEAD_SIZE;

    load_row(state_row, lane, is_row && sequence.is_fresh == 0u);
    for (var start = 0u; start < sequence.n_tokens; start += BLOCK_LEN) {
        let n_tokens = min(BLOCK_LEN, sequence.n_tokens - start);
        let block = (sequence.first + start) * N_COLS + head;
        workgroupBarrier(); // nobody reads the previous block any more
        stage(block, n_tokens, first_row, index);
        workgroupBarrier();
        for (var t = 0u; t < n_tokens; t++) {
            let y = advance_row(t * ROW_QUADS, index, staged_v[t * N_ROWS + index / N_LANES]);
            if lane == 0u && is_row {
                out[block + t * N_COLS + row] = y;
            }
        }
    }
    store_row(state_row, lane, is_row);
}

// Operands of the `n_tokens` tokens from element `block`: of all columns, and of v the workgroup's rows.
fn stage(block: u32, n_tokens: u32, first_row: u32, index: u32) {
    for (var i = index; i < n_tokens * ROW_QUADS; i += WORKGROUP) {
        let column = i % ROW_QUADS * 4u;
        let source = block + i / ROW_QUADS * N_COLS + column;
        var quads: array<vec4<f32>, 5>;
        for (var j = 0u; j < 4u; j++) {
            if column + j < HEAD_SIZE {
                quads[0][j] = r[source + j];
                quads[1][j] = w[source + j];
                quads[2][j] = k[source + j];
                quads[3][j] = kk[source + j];
                quads[4][j] = kk[source + j] * a[source + j];
            }
        }
        staged_r[i] = quads[0];
        staged_w[i] = quads[1];
        staged_k[i] = quads[2];
        staged_kk[i] = quads[3];
        staged_b[i] = quads[4];
    }
    for (var i = index; i < n_tokens * N_ROWS; i += WORKGROUP) {
        let row = first_row + i % N_ROWS;
        if row < HEAD_SIZE {
            staged_v[i] = v[block + i / N_ROWS * N_COLS + row];
        }
    }
}
