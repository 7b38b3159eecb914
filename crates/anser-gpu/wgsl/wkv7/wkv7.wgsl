// The recurrence of RWKV-7. Per head and token, with the head's state S [N, N] (value row, key column):
// S ← S·diag(w) − (S·kk)(kk ∘ a)ᵀ + v kᵀ, then out = S·r.
//
// Rows of S do not depend on each other: a workgroup takes some rows of one head of one sequence through all its tokens.
// The tokens' operands, which all rows need, are staged in workgroup memory, BLOCK_LEN tokens at a time; those of the next
// block are fetched meanwhile. Follows step.wgsl, lanes/*.wgsl, wkv7/state_*.wgsl, wkv7/rows.wgsl and wkv7/inputs_*.wgsl.

override N_COLS: u32; // C
override BLOCK_LEN: u32;

override N_ROWS: u32 = WORKGROUP / N_LANES; // rows of a workgroup, a multiple of 4
override N_STAGED: u32 = BLOCK_LEN * ROW_QUADS;
override N_STAGED_V: u32 = BLOCK_LEN * N_ROWS / 4u;

@group(0) @binding(1) var<storage, read> sequences: array<Sequence>; // [B]
@group(0) @binding(2) var<storage, read_write> out: array<f32>;      // [T, C]

// Four columns of a token's operands; b = kk ∘ a.
struct Operands {
    r: vec4<f32>,
    w: vec4<f32>,
    k: vec4<f32>,
    kk: vec4<f32>,
    b: vec4<f32>,
}

var<workgroup> staged_r: array<vec4<f32>, N_STAGED>;
var<workgroup> staged_w: array<vec4<f32>, N_STAGED>;
var<workgroup> staged_k: array<vec4<f32>, N_STAGED>;
var<workgroup> staged_kk: array<vec4<f32>, N_STAGED>;
var<workgroup> staged_b: array<vec4<f32>, N_STAGED>;
var<workgroup> staged_v: array<vec4<f32>, N_STAGED_V>; // the workgroup's rows

// What an invocation fetches of a block: it is as large as this allows.
const FETCHED: u32 = 2u;
const MAX_FETCHED_V: u32 = 8u;
override FETCHED_V: u32 = (N_STAGED_V + WORKGROUP - 1u) / WORKGROUP;
var<private> fetched: array<Operands, FETCHED>;
var<private> fetched_v: array<vec4<f32>, MAX_FETCHED_V>;

fn run(workgroup: vec3<u32>, index: u32) {
    let sequence = sequences[workgroup.z];
    let head = workgroup.x * HEAD_SIZE;
    let row = workgroup.y * N_ROWS + index / N_LANES;
    let lane = index % N_LANES;
    let is_row = row < HEAD_SIZE;
    let state_row = sequence.slot * N_COLS + head + row;
    let end = sequence.first + sequence.n_tokens;

    clear_row();
    if is_row && sequence.is_fresh == 0u {
        load_row(state_row, lane);
    }
    fetch(sequence.first, end, head, workgroup.y, index);
    for (var block = sequence.first; block < end; block += BLOCK_LEN) {
        workgroupBarrier(); // nobody reads the previous block any more
        stage(index);
        workgroupBarrier();
        fetch(block + BLOCK_LEN, end, head, workgroup.y, index);
        let n_tokens = min(BLOCK_LEN, end - block);
        for (var t = 0u; t < n_tokens; t++) {
            let i = index / N_LANES;
            let value = staged_v[t * (N_ROWS / 4u) + i / 4u][i % 4u];
            let y = advance_row(t * ROW_QUADS, index, value);
            if lane == 0u && is_row {
                out[(block + t) * N_COLS + head + row] = y;
            }
        }
    }
    if is_row {
        store_row(state_row + (sequence.to_slot - sequence.slot) * N_COLS, lane);
    }
}

// Fetches the operands of up to BLOCK_LEN tokens from `block`.
fn fetch(block: u32, end: u32, head: u32, part: u32, index: u32) {
    for (var i = 0u; i < FETCHED; i++) {
        let at = index + i * WORKGROUP;
        let t = block + at / ROW_QUADS;
        if t < end {
            fetched[i] = load_operands(t * N_COLS + head, at % ROW_QUADS);
        }
    }
    for (var i = 0u; i < FETCHED_V; i++) {
        let at = index + i * WORKGROUP;
        let t = block + at / (N_ROWS / 4u);
        if t < end {
            fetched_v[i] = load_values(t * N_COLS + head, part * (N_ROWS / 4u) + at % (N_ROWS / 4u));
        }
    }
}

// Stages what was fetched.
fn stage(index: u32) {
    for (var i = 0u; i < FETCHED; i++) {
        let at = index + i * WORKGROUP;
        staged_r[at] = fetched[i].r;
        staged_w[at] = fetched[i].w;
        staged_k[at] = fetched[i].k;
        staged_kk[at] = fetched[i].kk;
        staged_b[at] = fetched[i].b;
    }
    for (var i = 0u; i < FETCHED_V; i++) {
        let at = index + i * WORKGROUP;
        if at < N_STAGED_V {
            staged_v[at] = fetched_v[i];
        }
    }
}
