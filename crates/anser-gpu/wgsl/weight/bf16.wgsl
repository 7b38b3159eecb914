// BF16: rows of N_COLS upper halves of floats, padded with zeros to whole pieces: [n_rows, N_PIECES, 2] vec4s of eight
// numbers each.

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

fn four_bf16(bits: vec2<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(
        bits.x << 16u,
        bits.x & 0xffff0000u,
        bits.y << 16u,
        bits.y & 0xffff0000u,
    ));
}

fn unit_values(unit: Unit, u: u32, p: u32) -> Piece {
    return Piece(
        four_bf16(unit.low.xy),
        four_bf16(unit.low.zw),
        four_bf16(unit.high.xy),
        four_bf16(unit.high.zw),
    );
}
