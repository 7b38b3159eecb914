// The token shift of a layer norm: xx = norm(x), then mixes of xx and the previous token's xx. A workgroup computes
// SLICE_LEN columns of one token: several share a row where there are few tokens. Each normalises the whole row, and the
// previous token's unless that one is in the state. Follows step.wgsl, reduce/*.wgsl and norm_shift/mixes_*.wgsl.

override N_COLS: u32; // C
override SLICE_LEN: u32;
override EPS: f32;
override VECTOR_STRIDE: u32; // elements between the vectors of a run
override ONE_EACH: bool;     // whether every sequence has one token: then no token's previous one is a row

@group(0) @binding(0) var<storage, read> tokens: array<Token>;    // [T]
@group(0) @binding(1) var<storage, read> x: array<f32>;           // [T, C]
@group(0) @binding(2) var<storage, read> norm: array<f32>;        // [2, C] scale and offset
@group(0) @binding(3) var<storage, read> mix: array<f32>;         // [mixes, C]
@group(0) @binding(4) var<storage, read_write> state: array<f32>; // [slots, 2, C]

const MAX_HELD: u32 = 16u;                                    // elements of a row in one invocation
override N_HELD: u32 = (N_COLS + WORKGROUP - 1u) / WORKGROUP;

// What a column needs besides the statistics of its row.
struct Column {
    x: vec2<f32>, // of this token and the previous one
    scale: f32,
    offset: f32,
    state: f32,
    mixes: Mixes,
}

// The state comes last: its place is not known before the token is there, and what is asked for after it would wait, too.
fn load_column(c: u32, row: u32, row_before: u32, state_before: u32) -> Column {
    var column: Column;
    column.x = load_x(c, row, row_before);
    column.scale = norm[c];
    column.offset = norm[VECTOR_STRIDE + c];
    column.mixes = load_mixes(c);
    column.state = state[state_before + c];
    return column;
}

fn load_x(c: u32, row: u32, row_before: u32) -> vec2<f32> {
    if ONE_EACH {
        return vec2<f32>(x[row + c], 0.0);
    }
    return vec2<f32>(x[row + c], x[row_before + c]);
}

fn run(workgroup: vec3<u32>, local: u32) {
    let t = workgroup.x;
    let token = tokens[t];
    let row = t * N_COLS;
    let row_before = select(row, row - N_COLS, token.previous == PREVIOUS_ROW);
    let state_before = (token.slot * 2u + token.half) * N_COLS;
    let state_after = (token.to_slot * 2u + 1u - token.half) * N_COLS;
    let end = min((workgroup.y + 1u) * SLICE_LEN, N_COLS);

    // Both rows side by side, so that their sums take one reduction.
    var held: array<vec2<f32>, MAX_HELD>;
    var sum = vec2<f32>(0.0);
    for (var i = 0u; i < N_HELD; i++) {
        let c = local + i * WORKGROUP;
        held[i] = vec2<f32>(0.0);
        if c < N_COLS {
            held[i] = load_x(c, row, row_before);
        }
        sum += held[i];
    }
    // Fetched before the reductions, so that nothing has to be waited for after them.
    var c = workgroup.y * SLICE_LEN + local;
    var column = load_column(min(c, N_COLS - 1u), row, row_before, state_before);

    let mean = workgroup_sum2(sum, local) / f32(N_COLS);
    var squares = vec2<f32>(0.0);
    for (var i = 0u; i < N_HELD; i++) {
        if local + i * WORKGROUP < N_COLS {
            let d = held[i] - mean;
            squares += d * d;
        }
    }
    let scale = inverseSqrt(workgroup_sum2(squares, local) / f32(N_COLS) + EPS);

    for (var i = 0u; i < SLICE_LEN; i += WORKGROUP) {
        let valid = c < end;
        let normed = (column.x - mean) * scale * column.scale + column.offset;
        var previous = normed.y;
        if token.previous == PREVIOUS_STATE {
            previous = column.state;
        } else if token.previous == PREVIOUS_ZERO {
            previous = 0.0;
        }
        if valid && token.is_last == 1u {
            state[state_after + c] = normed.x;
        }
        write_mixes(row, c, local, valid, column.mixes, normed.x, previous);
        if SLICE_LEN > WORKGROUP {
            c += WORKGROUP;
            column = load_column(min(c, N_COLS - 1u), row, row_before, state_before);
        }
    }
}

fn mix_of(i: u32, c: u32) -> f32 {
    return mix[i * VECTOR_STRIDE + c];
}
