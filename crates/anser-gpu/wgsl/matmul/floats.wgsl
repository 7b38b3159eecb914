// Rows of float weights, padded with zeros to whole pieces: F16 and BF16 `[n_rows, N_PIECES, 2]`, F32
// `[n_rows, N_PIECES, 4]` vec4s. Needs no f16 support in shaders. Follows weight/piece.wgsl,
// weight/float_kinds.wgsl and weight/words.wgsl.

fn f16_values(bits: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(bits.x), unpack2x16float(bits.y));
}

fn bf16_values(bits: vec2<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(
        bits.x << 16u,
        bits.x & 0xffff0000u,
        bits.y << 16u,
        bits.y & 0xffff0000u,
    ));
}

// A piece of 16-bit numbers of a kind.
fn halves_piece(kind: u32, low: vec4<u32>, high: vec4<u32>) -> Piece {
    if kind == F16 {
        return Piece(f16_values(low.xy), f16_values(low.zw), f16_values(high.xy), f16_values(high.zw));
    }
    return Piece(bf16_values(low.xy), bf16_values(low.zw), bf16_values(high.xy), bf16_values(high.zw));
}

fn f32_piece(at: u32) -> Piece {
    return Piece(
        bitcast<vec4<f32>>(weights[at]),
        bitcast<vec4<f32>>(weights[at + 1u]),
        bitcast<vec4<f32>>(weights[at + 2u]),
        bitcast<vec4<f32>>(weights[at + 3u]),
    );
}
