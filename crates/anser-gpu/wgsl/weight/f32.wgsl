// F32: rows of N_COLS floats, padded with zeros to whole pieces: [n_rows, N_PIECES, 4] vec4s.

const UNIT_PIECES: u32 = 1u;

override N_UNITS: u32 = N_PIECES;

override ROW_LEN: u32 = 4u * N_PIECES;

struct Unit {
    values: Piece,
}

fn load_unit(start: u32, u: u32) -> Unit {
    let i = start + 4u * u;
    return Unit(Piece(
        bitcast<vec4<f32>>(weights[i]),
        bitcast<vec4<f32>>(weights[i + 1u]),
        bitcast<vec4<f32>>(weights[i + 2u]),
        bitcast<vec4<f32>>(weights[i + 3u]),
    ));
}

fn unit_piece(u: u32, p: u32) -> u32 {
    return u;
}

fn piece_unit(piece: u32) -> PieceUnit {
    return PieceUnit(piece, 0u);
}

fn unit_values(unit: Unit, u: u32, p: u32) -> Piece {
    return unit.values;
}
