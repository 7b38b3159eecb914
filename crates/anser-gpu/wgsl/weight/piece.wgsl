// How weight matrices are cut: a row is a sequence of pieces of 16 columns.
//
// A file of this folder defines, for one dtype:
//   Unit          what one thread loads at once: UNIT_PIECES pieces, of which N_UNITS make a row
//   ROW_LEN       vec4s of a row
//   load_unit     the bits of unit `u` of the row that starts at vec4 `start`, not decoded
//   unit_piece    which piece of the row piece `p` of unit `u` is
//   unit_values   the 16 values of a piece
//   piece_unit    the inverse of unit_piece
// and, if it is quantized (value = scale · q − offset),
//   unit_quants   the 16 integers q of a piece, as signed bytes
//   unit_scale    scale and offset of a piece

override N_COLS: u32;

override N_PIECES: u32 = (N_COLS + 15u) / 16u;

// 16 values in the order of their columns.
struct Piece {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

// Where a piece is: piece `p` of unit `u`.
struct PieceUnit {
    u: u32,
    p: u32,
}
