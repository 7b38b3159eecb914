// Fills the tile of weights from rows. Follows weight/*.wgsl and matmul/tile_*.wgsl.

fn fill_weights(first_row: u32, piece: u32, local: u32) {
    for (var i = local; i < TILE_M; i += WORKGROUP) {
        let row = min(first_row + i, target_rows.n_rows - 1u);
        let at = piece_unit(piece);
        let values = unit_values(load_unit(row * ROW_LEN, at.u), at.u, at.p);
        weight_tile[tile_index(i, 0u)] = tile_vec(values.a);
        weight_tile[tile_index(i, 1u)] = tile_vec(values.b);
        weight_tile[tile_index(i, 2u)] = tile_vec(values.c);
        weight_tile[tile_index(i, 3u)] = tile_vec(values.d);
    }
}
