// The input x `[T, N_COLS]` by pieces of 16 columns, for any N_COLS: its rows start anywhere.

@group(0) @binding(1) var<storage, read> x: array<f32>;

fn input1(row: u32, column: u32) -> f32 {
    if column < N_COLS {
        return x[row * N_COLS + column];
    }
    return 0.0;
}

fn input4(row: u32, column: u32) -> vec4<f32> {
    return vec4<f32>(
        input1(row, column),
        input1(row, column + 1u),
        input1(row, column + 2u),
        input1(row, column + 3u),
    );
}

// A piece of a row; zeros beyond its end.
fn input(row: u32, piece: u32) -> Piece {
    let i = 16u * piece;
    return Piece(input4(row, i), input4(row, i + 4u), input4(row, i + 8u), input4(row, i + 12u));
}
