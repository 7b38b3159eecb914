// Q8_0, reordered row by row: N_COLS signed bytes, then one f16 scale per 32 of them, then padding to 16 bytes.
//
// (In files each scale stands before its 32 bytes, which leaves them unaligned.)

const UNIT_PIECES: u32 = 2u;

override N_UNITS: u32 = N_COLS / 32u;

override ROW_LEN: u32 = N_COLS / 16u + (N_UNITS + 7u) / 8u;

struct Unit {
    quants: array<vec4<u32>, 2>,
    scales: u32, // of this unit and of its neighbour
}

fn load_unit(start: u32, u: u32) -> Unit {
    let scales = weights[start + N_COLS / 16u + u / 8u][u / 2u % 4u];
    return Unit(array<vec4<u32>, 2>(weights[start + 2u * u], weights[start + 2u * u + 1u]), scales);
}

fn unit_piece(u: u32, p: u32) -> u32 {
    return 2u * u + p;
}

fn piece_unit(piece: u32) -> PieceUnit {
    return PieceUnit(piece / 2u, piece % 2u);
}

fn unit_quants(unit: Unit, u: u32, p: u32) -> vec4<u32> {
    return select(unit.quants[0], unit.quants[1], p == 1u);
}

fn unit_scale(unit: Unit, u: u32, p: u32) -> vec2<f32> {
    return vec2<f32>(unpack2x16float(unit.scales >> (16u * (u % 2u))).x, 0.0);
}
