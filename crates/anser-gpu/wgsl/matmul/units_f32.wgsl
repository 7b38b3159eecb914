// Products of units of quantized weights with activations in f32.

fn piece_product(job: Job, w: Piece, piece: u32, column: u32) -> f32 {
    let start = job.x + column_token(column) * N_COLS;
    let i = 4u * piece;
    let low = dot(w.a, input4(start, i, N_COLS)) + dot(w.b, input4(start, i + 1u, N_COLS));
    return low + (dot(w.c, input4(start, i + 2u, N_COLS)) + dot(w.d, input4(start, i + 3u, N_COLS)));
}

// Adds the products of unit `u` of the rows from `first`.
fn add_unit(job: Job, first: u32, u: u32) {
    for (var r = 0u; r < ROWS_EACH; r++) {
        let unit = load_unit(job.weights + row_of(job, first, r) * ROW_LEN, u);
        for (var p = 0u; p < UNIT_PIECES; p++) {
            let w = unit_values(unit, u, p);
            let piece = unit_piece(u, p);
            sums[r][0] += piece_product(job, w, piece, 0u);
            if COLUMNS > 1u {
                sums[r][1] += piece_product(job, w, piece, 1u);
            }
            if COLUMNS > 2u {
                sums[r][2] += piece_product(job, w, piece, 2u);
                sums[r][3] += piece_product(job, w, piece, 3u);
            }
            if COLUMNS > 4u {
                sums[r][4] += piece_product(job, w, piece, 4u);
                sums[r][5] += piece_product(job, w, piece, 5u);
                sums[r][6] += piece_product(job, w, piece, 6u);
                sums[r][7] += piece_product(job, w, piece, 7u);
            }
        }
    }
}
