// Fills the tile of weights from panels: a thread has octets of rows, one column each. Follows weight/panels_f16.wgsl and
// matmul/tile_*.wgsl.

// In the order of memory: octets, columns, panels.
fn fill_weights(first_row: u32, piece: u32, local: u32) {
    for (var i = local; i < 2u * TILE_M; i += WORKGROUP) {
        let octet = i % 2u;
        let column = i / 2u % 16u;
        let panel = min(first_row / 16u + i / 32u, target_rows.n_rows / 16u - 1u);
        let values = octet_values(load_octet(panel, octet, 16u * piece + column));
        let row = i / 32u * 16u + 8u * octet;
        fill_rows(row, column, tile_vec(values.low));
        fill_rows(row + 4u, column, tile_vec(values.high));
    }
}

fn fill_rows(row: u32, column: u32, values: TileVec) {
    weight_tile[tile_index(row, column / 4u)][column % 4u] = values.x;
    weight_tile[tile_index(row + 1u, column / 4u)][column % 4u] = values.y;
    weight_tile[tile_index(row + 2u, column / 4u)][column % 4u] = values.z;
    weight_tile[tile_index(row + 3u, column / 4u)][column % 4u] = values.w;
}
