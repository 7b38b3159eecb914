// Products for up to COLUMNS tokens: every weight is read once and used for all of them.
//
// N_LANES neighbouring threads compute a row, each taking every N_LANES-th unit of it. WORKGROUP / N_LANES rows make a
// workgroup; workgroups are numbered along x, then y, and each computes rows of one job. Follows jobs.wgsl, columns.wgsl,
// activation.wgsl, bytes.wgsl, lanes/*.wgsl, vec_floats.wgsl and vec_*quantized.wgsl.

override HAS_FLOATS: bool;    // whether any job has float weights
override HAS_QUANTIZED: bool; // whether any job has quantized ones
override WRITES_BYTES: bool;  // whether any result is wanted in bytes: then ROWS is a multiple of 16

override ROWS: u32 = WORKGROUP / N_LANES;
override N_STAGED: u32 = select(1u, ROWS * COLUMNS, WRITES_BYTES);
override ROW_PIECES: u32 = max(ROWS / 16u, 1u);

var<workgroup> staged: array<f32, N_STAGED>; // results [COLUMNS, ROWS], before they become bytes

fn run(workgroup: vec3<u32>, local: u32) {
    let number = workgroup.x + GRID_WIDTH * workgroup.y;
    let job = job_of(number);
    let first = (number - job.first_workgroup) * ROWS;
    let row = first + local / N_LANES;
    let lane = local % N_LANES;
    // Threads beyond the last row repeat it and write nothing: the sums need every thread.
    let valid = row < job.n_rows;
    let weight_row = min(row, job.n_rows - 1u);
    // Fetched early, so that nothing has to be waited for at the end.
    let bias = load_bias(job, weight_row);
    let residuals = load_residuals(job, weight_row);

    var sums: Columns;
    if HAS_QUANTIZED && (!HAS_FLOATS || job.kind == QUANTIZED) {
        sums = quantized_products(job, weight_row, lane);
    } else {
        sums = float_products(job, weight_row, lane);
    }

    sums.a.x = lanes_sum(sums.a.x, local);
    if COLUMNS > 1u {
        sums.a.y = lanes_sum(sums.a.y, local);
    }
    if COLUMNS > 2u {
        sums.a.z = lanes_sum(sums.a.z, local);
        sums.a.w = lanes_sum(sums.a.w, local);
    }
    if COLUMNS > 4u {
        sums.b.x = lanes_sum(sums.b.x, local);
        sums.b.y = lanes_sum(sums.b.y, local);
        sums.b.z = lanes_sum(sums.b.z, local);
        sums.b.w = lanes_sum(sums.b.w, local);
    }
    if lane == 0u {
        store(job, row, 0u, valid, sums.a.x, bias, residuals.a.x);
        if COLUMNS > 1u {
            store(job, row, 1u, valid, sums.a.y, bias, residuals.a.y);
        }
        if COLUMNS > 2u {
            store(job, row, 2u, valid, sums.a.z, bias, residuals.a.z);
            store(job, row, 3u, valid, sums.a.w, bias, residuals.a.w);
        }
        if COLUMNS > 4u {
            store(job, row, 4u, valid, sums.b.x, bias, residuals.b.x);
            store(job, row, 5u, valid, sums.b.y, bias, residuals.b.y);
            store(job, row, 6u, valid, sums.b.z, bias, residuals.b.z);
            store(job, row, 7u, valid, sums.b.w, bias, residuals.b.w);
        }
    }
    if WRITES_BYTES {
        workgroupBarrier();
        for (var i = local; i < COLUMNS * ROW_PIECES; i += WORKGROUP) {
            store_bytes(job, first / 16u, i / ROW_PIECES, i % ROW_PIECES);
        }
    }
}

fn load_residuals(job: Job, row: u32) -> Columns {
    var values = Columns();
    values.a.x = load_residual(job, row, column_token(0u));
    if COLUMNS > 1u {
        values.a.y = load_residual(job, row, column_token(1u));
    }
    if COLUMNS > 2u {
        values.a.z = load_residual(job, row, column_token(2u));
        values.a.w = load_residual(job, row, column_token(3u));
    }
    if COLUMNS > 4u {
        values.b.x = load_residual(job, row, column_token(4u));
        values.b.y = load_residual(job, row, column_token(5u));
        values.b.z = load_residual(job, row, column_token(6u));
        values.b.w = load_residual(job, row, column_token(7u));
    }
    return values;
}

fn store(job: Job, row: u32, token: u32, valid: bool, sum: f32, bias: f32, residual: f32) {
    let value = residual + activation(sum + bias, job.epilogue);
    if valid && token < n_tokens() && job.out != NOTHING {
        out[job.out + token * job.n_total + job.first_row + row] = bitcast<u32>(value);
    }
    if WRITES_BYTES {
        staged[token * ROWS + row % ROWS] = value;
    }
}

// Piece `p` of the workgroup's results for a token.
fn store_bytes(job: Job, first_piece: u32, token: u32, p: u32) {
    let piece = first_piece + p;
    if job.out_bytes == NOTHING || token >= n_tokens() || 16u * piece >= job.n_rows {
        return;
    }
    let at = token * ROWS + 16u * p;
    let bytes = to_bytes(staged4(at), staged4(at + 4u), staged4(at + 8u), staged4(at + 12u));
    let to = token * (job.n_total / 16u) + job.first_row / 16u + piece;
    out[job.out_bytes + 4u * to] = bytes.quants.x;
    out[job.out_bytes + 4u * to + 1u] = bytes.quants.y;
    out[job.out_bytes + 4u * to + 2u] = bytes.quants.z;
    out[job.out_bytes + 4u * to + 3u] = bytes.quants.w;
    out[job.out_scales + 2u * to] = bitcast<u32>(bytes.scales.x);
    out[job.out_scales + 2u * to + 1u] = bitcast<u32>(bytes.scales.y);
}

fn staged4(at: u32) -> vec4<f32> {
    return vec4<f32>(staged[at], staged[at + 1u], staged[at + 2u], staged[at + 3u]);
}
