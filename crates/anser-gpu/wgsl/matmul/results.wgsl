// The results of a workgroup that computes ROWS rows of one job for up to COLUMNS tokens. Follows jobs.wgsl, columns.wgsl,
// activation.wgsl and bytes_out.wgsl.

override ROWS: u32;
override WRITES_BYTES: bool; // whether any result is wanted in bytes: then ROWS is a multiple of 16

override N_STAGED: u32 = select(1u, ROWS * COLUMNS, WRITES_BYTES);
override ROW_PIECES: u32 = max(ROWS / 16u, 1u);

var<workgroup> staged: array<f32, N_STAGED>; // results [COLUMNS, ROWS], before they become bytes

fn store(job: Job, row: u32, token: u32, valid: bool, sum: f32, bias: f32, residual: f32, gate: f32) {
    let value = residual + gate * activation(sum + bias, job.epilogue);
    if valid && token < n_tokens() && job.out != NOTHING {
        out[job.out + token * job.n_total + job.first_row + row] = bitcast<u32>(value);
    }
    if WRITES_BYTES {
        staged[token * ROWS + row % ROWS] = value;
    }
}

// After all results from row `first` on are stored: writes them in bytes, too, if they are wanted so. The whole workgroup
// must call it.
fn store_all_bytes(job: Job, first: u32, local: u32) {
    if WRITES_BYTES {
        workgroupBarrier();
        for (var i = local; i < COLUMNS * ROW_PIECES; i += WORKGROUP) {
            store_bytes(job, first / 16u, i / ROW_PIECES, i % ROW_PIECES);
        }
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
    write_bytes(job.out_bytes, job.out_scales, to, bytes);
}

fn staged4(at: u32) -> vec4<f32> {
    return vec4<f32>(staged[at], staged[at + 1u], staged[at + 2u], staged[at + 3u]);
}
