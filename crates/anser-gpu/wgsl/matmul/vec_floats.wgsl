// Products of rows of float weights by vec4s: eight columns of 16 bits or four of 32, neighbouring threads taking
// neighbouring ones. Follows columns.wgsl and floats.wgsl.

// Vec4s of a row that are asked for before the first of them is needed.
override AHEAD: u32 = 4u / ROWS_EACH;

fn product8(job: Job, low: vec4<f32>, high: vec4<f32>, i: u32, column: u32) -> f32 {
    let n = job_n_cols(job);
    let start = job.x + column_token(column) * n;
    return dot(low, input4(start, 2u * i, n)) + dot(high, input4(start, 2u * i + 1u, n));
}

fn add_products(job: Job, row: u32, low: vec4<f32>, high: vec4<f32>, i: u32) {
    sums[row][0] += product8(job, low, high, i, 0u);
    if COLUMNS > 1u {
        sums[row][1] += product8(job, low, high, i, 1u);
    }
    if COLUMNS > 2u {
        sums[row][2] += product8(job, low, high, i, 2u);
        sums[row][3] += product8(job, low, high, i, 3u);
    }
    if COLUMNS > 4u {
        sums[row][4] += product8(job, low, high, i, 4u);
        sums[row][5] += product8(job, low, high, i, 5u);
        sums[row][6] += product8(job, low, high, i, 6u);
        sums[row][7] += product8(job, low, high, i, 7u);
    }
}

fn add_halves(job: Job, row: u32, bits: vec4<u32>, i: u32) {
    if job.kind == F16 {
        add_products(job, row, f16_values(bits.xy), f16_values(bits.zw), i);
    } else {
        add_products(job, row, bf16_values(bits.xy), bf16_values(bits.zw), i);
    }
}

// Adds the products of a thread's part of the rows from `first`.
fn add_float_rows(job: Job, first: u32, lane: u32) {
    let n_pieces = (job_n_cols(job) + 15u) / 16u;
    if job.kind == F32 {
        for (var i = lane; i < 2u * n_pieces; i += N_LANES) {
            for (var r = 0u; r < ROWS_EACH; r++) {
                let at = job.weights + row_of(job, first, r) * 4u * n_pieces + 2u * i;
                add_products(job, r, bitcast<vec4<f32>>(weights[at]), bitcast<vec4<f32>>(weights[at + 1u]), i);
            }
        }
        return;
    }
    let row_len = 2u * n_pieces;
    var i = lane;
    for (; i + (AHEAD - 1u) * N_LANES < row_len; i += AHEAD * N_LANES) {
        var bits: array<vec4<u32>, 4>; // [AHEAD, ROWS_EACH]
        for (var a = 0u; a < AHEAD; a++) {
            for (var r = 0u; r < ROWS_EACH; r++) {
                bits[a * ROWS_EACH + r] = weights[job.weights + row_of(job, first, r) * row_len + i + a * N_LANES];
            }
        }
        for (var a = 0u; a < AHEAD; a++) {
            for (var r = 0u; r < ROWS_EACH; r++) {
                add_halves(job, r, bits[a * ROWS_EACH + r], i + a * N_LANES);
            }
        }
    }
    for (; i < row_len; i += N_LANES) {
        for (var r = 0u; r < ROWS_EACH; r++) {
            add_halves(job, r, weights[job.weights + row_of(job, first, r) * row_len + i], i);
        }
    }
}
