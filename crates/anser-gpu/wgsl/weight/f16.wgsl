// F16: rows of N_COLS halves, padded with zeros to whole pieces: [n_rows, N_PIECES, 2] vec4s of eight halves each. Needs no
// f16 support in shaders.

const UNIT_PIECES: u32 = 1u;

override N_UNITS: u32 = N_PIECES;

override ROW_LEN: u32 = 2u * N_PIECES;

struct Unit {
    low: vec4<u32>,
    high: vec4<u32>,
}

fn load_unit(start: u32, u: u32) -> Unit {
    let i = start + 2u * u;
    return Unit(weights[i], weights[i + 1u]);
}

fn unit_piece(u: u32, p: u32) -> u32 {
    return u;
}

fn piece_unit(piece: u32) -> PieceUnit {
    return PieceUnit(piece, 0u);
}

fn four_halves(bits: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(bits.x), unpack2x16float(bits.y));
}

fn unit_values(unit: Unit, u: u32, p: u32) -> Piece {
    return Piece(
        four_halves(unit.low.xy),
        four_halves(unit.low.zw),
        four_halves(unit.high.xy),
        four_halves(unit.high.zw),
    );
}
