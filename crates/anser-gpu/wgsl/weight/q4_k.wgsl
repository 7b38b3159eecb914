// Q4_K as it lies in files: blocks of 256 columns in 144 bytes: header (see k_scales.wgsl), 128 bytes of nibbles.
//
// Column 64·g + 32·n + r of a block (g < 4, n < 2, r < 32) is nibble n (0 low, 1 high) of byte 32·g + r. A unit is 16
// of those bytes: one piece from the low nibbles, the other, 32 columns further, from the high ones.

const UNIT_PIECES: u32 = 2u;

override N_UNITS: u32 = N_COLS / 32u;

override ROW_LEN: u32 = 9u * (N_COLS / 256u);

struct Unit {
    header: vec4<u32>,
    nibbles: vec4<u32>,
}

fn load_unit(start: u32, u: u32) -> Unit {
    let i = start + 9u * (u / 8u);
    return Unit(weights[i], weights[i + 1u + u % 8u]);
}

fn unit_piece(u: u32, p: u32) -> u32 {
    return 4u * (u / 2u) + 2u * p + u % 2u;
}

fn piece_unit(piece: u32) -> PieceUnit {
    return PieceUnit(2u * (piece / 4u) + piece % 2u, piece / 2u % 2u);
}

fn unit_quants(unit: Unit, u: u32, p: u32) -> vec4<u32> {
    return (unit.nibbles >> vec4<u32>(4u * p)) & vec4<u32>(0x0f0f0f0fu);
}

fn unit_scale(unit: Unit, u: u32, p: u32) -> vec2<f32> {
    return k_scale(unit.header, u / 2u % 4u, p);
}
