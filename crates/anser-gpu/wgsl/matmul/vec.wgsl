// Products for up to COLUMNS tokens: every weight is read once and used for all of them.
//
// N_LANES neighbouring threads compute ROWS_EACH rows, each taking every N_LANES-th unit of them. Workgroups are numbered
// along x, then y, and each computes rows of one job. Follows jobs.wgsl, columns.wgsl, activation.wgsl, bytes.wgsl,
// lanes/*.wgsl, vec_floats.wgsl and vec_*quantized.wgsl.

override HAS_FLOATS: bool;    // whether any job has float weights
override HAS_QUANTIZED: bool; // whether any job has quantized ones
override WRITES_BYTES: bool;  // whether any result is wanted in bytes: then ROWS is a multiple of 16

override ROWS: u32 = WORKGROUP / N_LANES * ROWS_EACH;
override N_SUMS: u32 = ROWS_EACH * COLUMNS;
override N_STAGED: u32 = select(1u, ROWS * COLUMNS, WRITES_BYTES);
override ROW_PIECES: u32 = max(ROWS / 16u, 1u);

var<workgroup> staged: array<f32, N_STAGED>; // results [COLUMNS, ROWS], before they become bytes

fn run(workgroup: vec3<u32>, local: u32) {
    let number = workgroup.x + GRID_WIDTH * workgroup.y;
    let job = job_of(number);
    let first = (number - job.first_workgroup) * ROWS;
    let row = first + local / N_LANES * ROWS_EACH;
    let lane = local % N_LANES;
    // A lane finishes every N_LANES-th sum. What its first one needs is fetched early, so that nothing has to be waited for
    // at the end.
    let mine = min(lane, N_SUMS - 1u);
    let offset = load_offset(job, row_of(job, row, mine / COLUMNS), column_token(mine % COLUMNS));

    if HAS_QUANTIZED && (!HAS_FLOATS || job.kind == QUANTIZED) {
        add_quantized_rows(job, row, lane);
    } else {
        add_float_rows(job, row, lane);
    }
    finish_row(job, row, 0u, local, offset);
    if ROWS_EACH > 1u {
        finish_row(job, row, 1u, local, offset);
    }
    if ROWS_EACH > 2u {
        finish_row(job, row, 2u, local, offset);
        finish_row(job, row, 3u, local, offset);
    }
    if WRITES_BYTES {
        workgroupBarrier();
        for (var i = local; i < COLUMNS * ROW_PIECES; i += WORKGROUP) {
            store_bytes(job, first / 16u, i / ROW_PIECES, i % ROW_PIECES);
        }
    }
}

// Completes the sums of row `r` of those from `row`.
fn finish_row(job: Job, row: u32, r: u32, local: u32, offset: vec2<f32>) {
    finish(job, row, r, 0u, sums[r][0], local, offset);
    if COLUMNS > 1u {
        finish(job, row, r, 1u, sums[r][1], local, offset);
    }
    if COLUMNS > 2u {
        finish(job, row, r, 2u, sums[r][2], local, offset);
        finish(job, row, r, 3u, sums[r][3], local, offset);
    }
    if COLUMNS > 4u {
        finish(job, row, r, 4u, sums[r][4], local, offset);
        finish(job, row, r, 5u, sums[r][5], local, offset);
        finish(job, row, r, 6u, sums[r][6], local, offset);
        finish(job, row, r, 7u, sums[r][7], local, offset);
    }
}

fn finish(job: Job, row: u32, r: u32, c: u32, part: f32, local: u32, offset: vec2<f32>) {
    let sum = lanes_sum(part, local);
    let lane = local % N_LANES;
    let i = r * COLUMNS + c;
    if lane == i {
        store(job, row + r, c, sum, offset);
    } else if N_SUMS > N_LANES && lane == i % N_LANES {
        store(job, row + r, c, sum, load_offset(job, row_of(job, row, r), column_token(c)));
    }
}

// Bias and residual of an element.
fn load_offset(job: Job, row: u32, token: u32) -> vec2<f32> {
    return vec2<f32>(load_bias(job, row), load_residual(job, row, token));
}

fn store(job: Job, row: u32, token: u32, sum: f32, offset: vec2<f32>) {
    let value = offset.y + activation(sum + offset.x, job.epilogue);
    if row < job.n_rows && token < n_tokens() && job.out != NOTHING {
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
