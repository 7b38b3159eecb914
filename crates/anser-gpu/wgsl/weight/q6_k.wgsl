// Q6_K, reordered row by row: per block of 256 columns 128 bytes of low nibbles, 64 bytes of high bit pairs and 16
// signed scales; after all blocks of the row their f16 d, then padding to 16 bytes.
//
// (In files each d follows its block, which leaves the next one unaligned.)
//
// Column 128·h + 64·n + r of a block (h < 2, n < 2, r < 64) has its low bits in nibble n (0 low, 1 high) of byte
// 64·h + r. Column 128·h + 32·g + r (g < 4, r < 32) has its high bits in bits 2·g and 2·g + 1 of byte 32·h + r. A unit
// is 16 bytes r of a half h: four pieces, 32 columns apart.

const UNIT_PIECES: u32 = 4u;

override N_UNITS: u32 = N_COLS / 64u;

override N_BLOCKS: u32 = N_COLS / 256u;

override ROW_LEN: u32 = 13u * N_BLOCKS + (N_BLOCKS + 7u) / 8u;

struct Unit {
    low: array<vec4<u32>, 2>, // low bits of pieces 0 and 2, and of pieces 1 and 3
    high: vec4<u32>,
    scales: vec2<u32>, // of the half: eight signed bytes
    d: u32,            // of this block and of its neighbour
}

fn load_unit(start: u32, u: u32) -> Unit {
    let block = u / 4u;
    let half = u / 2u % 2u;
    let at = u % 2u;
    let i = start + 13u * block;
    let scales = weights[i + 12u];
    return Unit(
        array<vec4<u32>, 2>(weights[i + 4u * half + at], weights[i + 4u * half + 2u + at]),
        weights[i + 8u + 2u * half + at],
        select(scales.xy, scales.zw, half == 1u),
        weights[start + 13u * N_BLOCKS + block / 8u][block / 2u % 4u],
    );
}

fn unit_piece(u: u32, p: u32) -> u32 {
    return 8u * (u / 2u) + 2u * p + u % 2u;
}

fn piece_unit(piece: u32) -> PieceUnit {
    return PieceUnit(2u * (piece / 8u) + piece % 2u, piece / 2u % 4u);
}

// q is taken as 0..=63; the 32 to subtract is in the offset.
fn unit_quants(unit: Unit, u: u32, p: u32) -> vec4<u32> {
    let low = (select(unit.low[0], unit.low[1], p % 2u == 1u) >> vec4<u32>(4u * (p / 2u))) & vec4<u32>(0x0f0f0f0fu);
    let high = (unit.high >> vec4<u32>(2u * p)) & vec4<u32>(0x03030303u);
    return low | (high << vec4<u32>(4u));
}

fn unit_scale(unit: Unit, u: u32, p: u32) -> vec2<f32> {
    let four = select(unit.scales.x, unit.scales.y, p >= 2u);
    let sub_scale = extractBits(bitcast<i32>(four), 8u * (2u * (p % 2u) + u % 2u), 8u);
    let scale = unpack2x16float(unit.d >> (16u * (u / 4u % 2u))).x * f32(sub_scale);
    return vec2<f32>(scale, 32.0 * scale);
}
