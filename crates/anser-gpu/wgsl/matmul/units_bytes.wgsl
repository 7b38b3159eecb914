// Products of units of quantized weights with activations in 8 bits (see bytes.wgsl), exact in integers within a piece.
//
// With weights s·q − o and activations e·n, a piece contributes s·e·Σ q·n − o·e·Σ n.

// A piece of each row.
var<private> quants: array<vec4<u32>, MAX_ROWS_EACH>;
var<private> quant_scales: array<vec2<f32>, MAX_ROWS_EACH>;

// The input of a column, for a piece.
struct Input {
    n: vec4<u32>,
    e: vec2<f32>,
}

fn load_input(job: Job, piece: u32, column: u32) -> Input {
    let i = column_token(column) * N_PIECES + piece;
    return Input(input_bytes(job.x + i), scales[job.scales + i]);
}

fn product(r: u32, input: Input) -> f32 {
    let q = quants[r];
    let n = input.n;
    let sum = dot4I8Packed(q.x, n.x) + dot4I8Packed(q.y, n.y) + dot4I8Packed(q.z, n.z) + dot4I8Packed(q.w, n.w);
    return quant_scales[r].x * input.e.x * f32(sum) - quant_scales[r].y * input.e.y;
}

// Adds the products of unit `u` of the rows from `first`.
fn add_unit(job: Job, first: u32, u: u32) {
    var units: array<Unit, MAX_ROWS_EACH>;
    for (var r = 0u; r < ROWS_EACH; r++) {
        units[r] = load_unit(job.weights + row_of(job, first, r) * ROW_LEN, u);
    }
    for (var p = 0u; p < UNIT_PIECES; p++) {
        for (var r = 0u; r < ROWS_EACH; r++) {
            quants[r] = unit_quants(units[r], u, p);
            quant_scales[r] = unit_scale(units[r], u, p);
        }
        let piece = unit_piece(u, p);
        add_column_0(load_input(job, piece, 0u));
        if COLUMNS > 1u {
            add_column_1(load_input(job, piece, 1u));
        }
        if COLUMNS > 2u {
            add_column_2(load_input(job, piece, 2u));
            add_column_3(load_input(job, piece, 3u));
        }
        if COLUMNS > 4u {
            add_column_4(load_input(job, piece, 4u));
            add_column_5(load_input(job, piece, 5u));
            add_column_6(load_input(job, piece, 6u));
            add_column_7(load_input(job, piece, 7u));
        }
    }
}

fn add_column_0(input: Input) {
    for (var r = 0u; r < ROWS_EACH; r++) {
        sums[r][0] += product(r, input);
    }
}

fn add_column_1(input: Input) {
    for (var r = 0u; r < ROWS_EACH; r++) {
        sums[r][1] += product(r, input);
    }
}

fn add_column_2(input: Input) {
    for (var r = 0u; r < ROWS_EACH; r++) {
        sums[r][2] += product(r, input);
    }
}

fn add_column_3(input: Input) {
    for (var r = 0u; r < ROWS_EACH; r++) {
        sums[r][3] += product(r, input);
    }
}

fn add_column_4(input: Input) {
    for (var r = 0u; r < ROWS_EACH; r++) {
        sums[r][4] += product(r, input);
    }
}

fn add_column_5(input: Input) {
    for (var r = 0u; r < ROWS_EACH; r++) {
        sums[r][5] += product(r, input);
    }
}

fn add_column_6(input: Input) {
    for (var r = 0u; r < ROWS_EACH; r++) {
        sums[r][6] += product(r, input);
    }
}

fn add_column_7(input: Input) {
    for (var r = 0u; r < ROWS_EACH; r++) {
        sums[r][7] += product(r, input);
    }
}
