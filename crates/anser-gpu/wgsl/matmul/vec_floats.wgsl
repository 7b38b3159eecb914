// Products of a row of float weights. Follows floats.wgsl and products_f32.wgsl.

// Of a thread's pieces with the input of every column.
fn float_products(job: Job, row: u32, lane: u32) -> Columns {
    let n_pieces = (job_n_cols(job) + 15u) / 16u;
    var sums = Columns();
    switch job.kind {
        case F16: {
            let start = job.weights + 2u * row * n_pieces;
            for (var piece = lane; piece < n_pieces; piece += N_LANES) {
                sums = add(sums, piece_products(job, f16_piece(start + 2u * piece), piece));
            }
        }
        case BF16: {
            let start = job.weights + 2u * row * n_pieces;
            for (var piece = lane; piece < n_pieces; piece += N_LANES) {
                sums = add(sums, piece_products(job, bf16_piece(start + 2u * piece), piece));
            }
        }
        default: {
            let start = job.weights + 4u * row * n_pieces;
            for (var piece = lane; piece < n_pieces; piece += N_LANES) {
                sums = add(sums, piece_products(job, f32_piece(start + 4u * piece), piece));
            }
        }
    }
    return sums;
}
