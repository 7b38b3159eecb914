// Products with the second matrices of low-rank pairs, `[n_rows, RANK]` floats of one type. A kernel file declares `weights`,
// vec4s of bits, and `values`, vec4s of the pairs' inputs. Follows weight/piece.wgsl and weight/float_kinds.wgsl, and comes before
// matmul/floats.wgsl.

override KIND: u32; // type of the matrices
override RANK: u32; // a multiple of 4

override RANK_PIECES: u32 = (RANK + 15u) / 16u;
override PIECE_VEC4S: u32 = select(2u, 4u, KIND == F32);

// What piece `p` of row `row` adds to its product. The matrix begins at vec4 `matrix` of weights, the row `[RANK]` that it
// multiplies at vec4 `input` of values.
fn low_rank_product(matrix: u32, row: u32, input: u32, p: u32) -> f32 {
    let at = matrix + PIECE_VEC4S * (row * RANK_PIECES + p);
    var w: Piece;
    if KIND == F32 {
        w = f32_piece(at);
    } else {
        w = halves_piece(KIND, weights[at], weights[at + 1u]);
    }
    let i = 4u * p;
    return (dot(w.a, low_rank_input(input, i)) + dot(w.b, low_rank_input(input, i + 1u)))
        + (dot(w.c, low_rank_input(input, i + 2u)) + dot(w.d, low_rank_input(input, i + 3u)));
}

// Zeros beyond the last column.
fn low_rank_input(input: u32, column4: u32) -> vec4<f32> {
    if 4u * column4 < RANK {
        return values[input + column4];
    }
    return vec4<f32>(0.0);
}
