// A step's tile of weights is rows of columns: [TILE_M, PITCH].

fn weight_matrix(row: u32, column4: u32) -> MatB {
    return load_rows(row * PITCH + column4);
}
