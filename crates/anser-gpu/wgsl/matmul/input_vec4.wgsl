// The input x `[T, N_COLS]` by pieces of 16 columns, where N_COLS is a multiple of 4.

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;

fn input4(row: u32, column4: u32) -> vec4<f32> {
    if N_COLS % 16u == 0u || column4 < N_COLS / 4u {
        return x[row * (N_COLS / 4u) + column4];
    }
    return vec4<f32>(0.0);
}

// A piece of a row; zeros beyond its end.
fn input(row: u32, piece: u32) -> Piece {
    let i = 4u * piece;
    return Piece(input4(row, i), input4(row, i + 1u), input4(row, i + 2u), input4(row, i + 3u));
}
