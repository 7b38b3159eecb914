// Products of weights with activations, in f32.

fn dot_piece(w: Piece, x: Piece) -> f32 {
    return (dot(w.a, x.a) + dot(w.b, x.b)) + (dot(w.c, x.c) + dot(w.d, x.d));
}

fn piece_products(w: Piece, piece: u32) -> Columns {
    var sums = Columns();
    sums.a.x = dot_piece(w, input(column_token(0u), piece));
    if COLUMNS > 1u {
        sums.a.y = dot_piece(w, input(column_token(1u), piece));
    }
    if COLUMNS > 2u {
        sums.a.z = dot_piece(w, input(column_token(2u), piece));
        sums.a.w = dot_piece(w, input(column_token(3u), piece));
    }
    if COLUMNS > 4u {
        sums.b.x = dot_piece(w, input(column_token(4u), piece));
        sums.b.y = dot_piece(w, input(column_token(5u), piece));
        sums.b.z = dot_piece(w, input(column_token(6u), piece));
        sums.b.w = dot_piece(w, input(column_token(7u), piece));
    }
    return sums;
}

// Products of unit `u` of a row with the input of every column.
fn unit_products(row: u32, u: u32) -> Columns {
    let unit = load_unit(row, u);
    var sums = piece_products(unit_values(unit, u, 0u), unit_piece(u, 0u));
    if UNIT_PIECES > 1u {
        sums = add(sums, piece_products(unit_values(unit, u, 1u), unit_piece(u, 1u)));
    }
    if UNIT_PIECES > 2u {
        sums = add(sums, piece_products(unit_values(unit, u, 2u), unit_piece(u, 2u)));
        sums = add(sums, piece_products(unit_values(unit, u, 3u), unit_piece(u, 3u)));
    }
    return sums;
}
