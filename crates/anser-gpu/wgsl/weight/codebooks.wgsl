// The types whose integers come from codebooks, as codes of 4 bits: blocks of 256 columns in 144 bytes, without loss.
//
// Bytes 0..8: 16 numbers of 4 bits, the step of piece i of the block being 2·n_i + 1. Bytes 8..12: an f32 d, bytes 12..16: zeros. Then
// 128 bytes of codes: column 32·g + 16·n + r of a block (g < 8, n < 2, r < 16) is nibble n (0 low, 1 high) of byte 16·g + r.
// A unit is 16 of those bytes. The value of a code: bits 0 to 2 are the number of a magnitude, see the file of the type; bit 3
// is set if it is negative. Times the step, times d.

const UNIT_PIECES: u32 = 2u;

override N_UNITS: u32 = N_COLS / 32u;

override ROW_LEN: u32 = 9u * (N_COLS / 256u);

struct Unit {
    header: vec4<u32>,
    codes: vec4<u32>,
}

fn load_unit(start: u32, u: u32) -> Unit {
    let i = start + 9u * (u / 8u);
    return Unit(weights[i], weights[i + 1u + u % 8u]);
}

fn unit_piece(u: u32, p: u32) -> u32 {
    return 2u * u + p;
}

fn piece_unit(piece: u32) -> PieceUnit {
    return PieceUnit(piece / 2u, piece % 2u);
}

// The complement of a magnitude plus 1: no magnitude is 0, so that nothing is carried into the next byte.
fn unit_quants(unit: Unit, u: u32, p: u32) -> vec4<u32> {
    let codes = unit.codes >> vec4<u32>(4u * p);
    let negative = (codes >> vec4<u32>(3u)) & vec4<u32>(0x01010101u);
    return (magnitudes(codes & vec4<u32>(0x07070707u)) ^ (negative * 255u)) + negative;
}

fn unit_scale(unit: Unit, u: u32, p: u32) -> vec2<f32> {
    let four = select(unit.header.x, unit.header.y, u % 8u >= 4u);
    let step = 2u * ((four >> (4u * (2u * (u % 4u) + p))) & 15u) + 1u;
    return vec2<f32>(bitcast<f32>(unit.header.z) * f32(step), 0.0);
}
