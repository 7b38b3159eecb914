// Products of weights with activations, in f32.

fn dot_piece(job: Job, w: Piece, column: u32, piece: u32) -> f32 {
    let i = 4u * piece;
    let low = dot(w.a, input4(job, column, i)) + dot(w.b, input4(job, column, i + 1u));
    return low + (dot(w.c, input4(job, column, i + 2u)) + dot(w.d, input4(job, column, i + 3u)));
}

// Products of a piece with the input of every column.
fn piece_products(job: Job, w: Piece, piece: u32) -> Columns {
    var sums = Columns();
    sums.a.x = dot_piece(job, w, 0u, piece);
    if COLUMNS > 1u {
        sums.a.y = dot_piece(job, w, 1u, piece);
    }
    if COLUMNS > 2u {
        sums.a.z = dot_piece(job, w, 2u, piece);
        sums.a.w = dot_piece(job, w, 3u, piece);
    }
    if COLUMNS > 4u {
        sums.b.x = dot_piece(job, w, 4u, piece);
        sums.b.y = dot_piece(job, w, 5u, piece);
        sums.b.z = dot_piece(job, w, 6u, piece);
        sums.b.w = dot_piece(job, w, 7u, piece);
    }
    return sums;
}
