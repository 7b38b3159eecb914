// The recurrence of RWKV-7. Per head and token, with the head's state S [N, N] (value row, key column):
// S ← S·diag(w) − (S·kk)(kk ∘ a)ᵀ + v kᵀ, then out = S·r.
//
// Rows of S do not depend on each other: a workgroup takes some rows of one head of one sequence through all its tokens.
// The tokens' operands, which all rows need, are staged in workgroup memory, BLOCK_LEN tokens at a time; those of the next
// block are fetched meanwhile. Follows step.wgsl, lanes/*.wgsl, wkv7/state_*.wgsl and wkv7/inputs_*.wgsl.

override N_COLS: u32;    // C
override HEAD_SIZE: u32; // N
override BLOCK_LEN: u32;

override N_ROWS: u32 = WORKGROUP / N_LANES; // rows of a workgroup, a multiple of 4
const QUADS: u32 = 4u; // vec4s of a row in one invocation
override ROW_QUADS: u32 = N_LANES * QUADS; // vec4s of a row, padded with zeros

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

// What an invocation fetches of a block: two vec4s of columns, and values.
struct Fetched {
    first: Operands,
    second: Operands,
}

const MAX_FETCHED_V: u32 = 8u;
override FETCHED_V: u32 = (N_STAGED_V + WORKGROUP - 1u) / WORKGROUP;
var<private> fetched_v: array<vec4<f32>, MAX_FETCHED_V>;

// The columns of one invocation, in a row of S or of a token. (Not an array: drivers keep those in memory.)
struct Quads {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

// Operands of a token.
struct Turn {
    w: Quads,
    b: Quads,
    k: Quads,
    r: Quads,
    kk: Quads, // of the token after it
    v: f32,
}

fn run(workgroup: vec3<u32>, index: u32) {
    let sequence = sequences[workgroup.z];
    let head = workgroup.x * HEAD_SIZE;
    let row = workgroup.y * N_ROWS + index / N_LANES;
    let lane = index % N_LANES;
    let is_row = row < HEAD_SIZE;
    let state_row = sequence.slot * N_COLS + head + row;
    let end = sequence.first + sequence.n_tokens;

    var s = Quads();
    if is_row && sequence.is_fresh == 0u {
        s.a = load_quad(state_row, lane);
        s.b = load_quad(state_row, lane + N_LANES);
        s.c = load_quad(state_row, lane + 2u * N_LANES);
        s.d = load_quad(state_row, lane + 3u * N_LANES);
    }
    var fetched = fetch(sequence.first, end, head, workgroup.y, index);
    for (var block = sequence.first; block < end; block += BLOCK_LEN) {
        workgroupBarrier(); // all threads have read the previous block
        stage(fetched, index);
        workgroupBarrier();
        fetched = fetch(block + BLOCK_LEN, end, head, workgroup.y, index);
        // Both sums of a turn, S·r of its token and S·kk of the next one, are of the same S: their lanes are summed side by
        // side, while the next token's operands are on their way.
        var s_kk = lanes_sum(dot_quads(s, load_kk(lane)), index);
        var turn = load_turn(0u, index);
        let n_tokens = min(BLOCK_LEN, end - block);
        for (var t = 0u; t < n_tokens; t++) {
            s.a = s.a * turn.w.a - s_kk * turn.b.a + turn.v * turn.k.a;
            s.b = s.b * turn.w.b - s_kk * turn.b.b + turn.v * turn.k.b;
            s.c = s.c * turn.w.c - s_kk * turn.b.c + turn.v * turn.k.c;
            s.d = s.d * turn.w.d - s_kk * turn.b.d + turn.v * turn.k.d;
            let y = dot_quads(s, turn.r);
            let removed = dot_quads(s, turn.kk);
            turn = load_turn(min(t + 1u, BLOCK_LEN - 1u), index);
            let y_sum = lanes_sum(y, index);
            s_kk = lanes_sum(removed, index);
            if lane == 0u && is_row {
                out[(block + t) * N_COLS + head + row] = y_sum;
            }
        }
    }
    if is_row {
        let to_row = state_row + (sequence.to_slot - sequence.slot) * N_COLS;
        store_quad(to_row, lane, s.a);
        store_quad(to_row, lane + N_LANES, s.b);
        store_quad(to_row, lane + 2u * N_LANES, s.c);
        store_quad(to_row, lane + 3u * N_LANES, s.d);
    }
}

// This invocation's part of a product of two rows.
fn dot_quads(x: Quads, y: Quads) -> f32 {
    return sum4(x.a * y.a + x.b * y.b + (x.c * y.c + x.d * y.d));
}

fn sum4(x: vec4<f32>) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}

fn load_kk(at: u32) -> Quads {
    return Quads(
        staged_kk[at],
        staged_kk[at + N_LANES],
        staged_kk[at + 2u * N_LANES],
        staged_kk[at + 3u * N_LANES],
    );
}

fn load_turn(t: u32, index: u32) -> Turn {
    let a = t * ROW_QUADS + index % N_LANES;
    let b = a + N_LANES;
    let c = a + 2u * N_LANES;
    let d = a + 3u * N_LANES;
    let row = index / N_LANES;
    return Turn(
        Quads(staged_w[a], staged_w[b], staged_w[c], staged_w[d]),
        Quads(staged_b[a], staged_b[b], staged_b[c], staged_b[d]),
        Quads(staged_k[a], staged_k[b], staged_k[c], staged_k[d]),
        Quads(staged_r[a], staged_r[b], staged_r[c], staged_r[d]),
        load_kk(min(t + 1u, BLOCK_LEN - 1u) * ROW_QUADS + index % N_LANES),
        staged_v[t * (N_ROWS / 4u) + row / 4u][row % 4u],
    );
}

// Fetches the operands of up to BLOCK_LEN tokens from `block`.
fn fetch(block: u32, end: u32, head: u32, part: u32, index: u32) -> Fetched {
    for (var i = 0u; i < FETCHED_V; i++) {
        let at = index + i * WORKGROUP;
        let t = block + at / (N_ROWS / 4u);
        if t < end {
            fetched_v[i] = load_values(t * N_COLS + head, part * (N_ROWS / 4u) + at % (N_ROWS / 4u));
        }
    }
    // Tokens beyond the last one repeat it.
    let first = min(block + index / ROW_QUADS, end - 1u);
    let second = min(block + (index + WORKGROUP) / ROW_QUADS, end - 1u);
    return Fetched(
        load_operands(first * N_COLS + head, index % ROW_QUADS),
        load_operands(second * N_COLS + head, (index + WORKGROUP) % ROW_QUADS),
    );
}

fn stage_operands(operands: Operands, at: u32) {
    staged_r[at] = operands.r;
    staged_w[at] = operands.w;
    staged_k[at] = operands.k;
    staged_kk[at] = operands.kk;
    staged_b[at] = operands.b;
}

// Stages what was fetched.
fn stage(fetched: Fetched, index: u32) {
    stage_operands(fetched.first, index);
    stage_operands(fetched.second, index + WORKGROUP);
    for (var i = 0u; i < FETCHED_V; i++) {
        let at = index + i * WORKGROUP;
        if at < N_STAGED_V {
            staged_v[at] = fetched_v[i];
        }
    }
}
