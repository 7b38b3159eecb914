// F32: rows of N_COLS floats, padded with zeros to whole pieces.

@group(0) @binding(0) var<storage, read> weights: array<vec4<f32>>; // [n_rows, N_PIECES, 4]

const UNIT_PIECES: u32 = 1u;

override N_UNITS: u32 = N_PIECES;

struct Unit {
    values: Piece,
}

fn load_unit(row: u32, u: u32) -> Unit {
    let i = 4u * (row * N_UNITS + u);
    return Unit(Piece(weights[i], weights[i + 1u], weights[i + 2u], weights[i + 3u]));
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
