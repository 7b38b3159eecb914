// Q5_K as it lies in files: blocks of 256 columns in 176 bytes: header (see k_scales.wgsl), 32 bytes of fifth bits,
// 128 bytes of nibbles.
//
// Column 64·g + 32·n + r of a block (g < 4, n < 2, r < 32) is nibble n (0 low, 1 high) of byte 32·g + r, with bit
// 2·g + n of byte r on top. A unit is 16 bytes of nibbles: one piece from the low ones, the other, 32 columns further,
// from the high ones.

const UNIT_PIECES: u32 = 2u;

override N_UNITS: u32 = N_COLS / 32u;

override ROW_LEN: u32 = 11u * (N_COLS / 256u);

struct Unit {
    header: vec4<u32>,
    fifths: vec4<u32>,
    nibbles: vec4<u32>,
}

fn load_unit(start: u32, u: u32) -> Unit {
    let i = start + 11u * (u / 8u);
    return Unit(weights[i], weights[i + 1u + u % 2u], weights[i + 3u + u % 8u]);
}

fn unit_piece(u: u32, p: u32) -> u32 {
    return 4u * (u / 2u) + 2u * p + u % 2u;
}

fn piece_unit(piece: u32) -> PieceUnit {
    return PieceUnit(2u * (piece / 4u) + piece % 2u, piece / 2u % 2u);
}

fn unit_quants(unit: Unit, u: u32, p: u32) -> vec4<u32> {
    let low = (unit.nibbles >> vec4<u32>(4u * p)) & vec4<u32>(0x0f0f0f0fu);
    let fifth = (unit.fifths >> vec4<u32>(2u * (u / 2u % 4u) + p)) & vec4<u32>(0x01010101u);
    return low | (fifth << vec4<u32>(4u));
}

fn unit_scale(unit: Unit, u: u32, p: u32) -> vec2<f32> {
    return k_scale(unit.header, u / 2u % 4u, p);
}
