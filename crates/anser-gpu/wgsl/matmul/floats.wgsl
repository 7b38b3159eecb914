// Rows of float weights, padded with zeros to whole pieces: F16 and BF16 `[n_rows, N_PIECES, 2]`, F32
// `[n_rows, N_PIECES, 4]` vec4s. Needs no f16 support in shaders. Follows weight/piece.wgsl and weight/words.wgsl.

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

fn f32_piece(at: u32) -> Piece {
    return Piece(
        bitcast<vec4<f32>>(weights[at]),
        bitcast<vec4<f32>>(weights[at + 1u]),
        bitcast<vec4<f32>>(weights[at + 2u]),
        bitcast<vec4<f32>>(weights[at + 3u]),
    );
}
