//! Divides row-major matrices into disjoint slices, for threads that each compute some rows, or some columns of every row.

use std::ops::Range;

/// Splits `matrix` `[T, n_cols]` into tiles of `width` columns (the last may be narrower). A tile is a slice of each of
/// the T rows.
pub(crate) fn column_tiles(matrix: &mut [f32], n_cols: usize, width: usize) -> Vec<Vec<&mut [f32]>> {
    let n_rows = matrix.len() / n_cols;
    let mut tiles: Vec<Vec<&mut [f32]>> = (0..n_cols.div_ceil(width)).map(|_| Vec::with_capacity(n_rows)).collect();
    for row in matrix.chunks_exact_mut(n_cols) {
        for (tile, piece) in tiles.iter_mut().zip(row.chunks_mut(width)) {
            tile.push(piece);
        }
    }
    tiles
}

/// Splits `matrix` `[T, n_cols]` into tiles of up to `n_rows` whole rows: the range of rows of each tile, and their
/// elements.
pub(crate) fn row_tiles(matrix: &mut [f32], n_cols: usize, n_rows: usize) -> Vec<(Range<usize>, &mut [f32])> {
    let tile = |(i, tile): (usize, _)| (i * n_rows, tile);
    let tiles = matrix.chunks_mut(n_rows * n_cols).enumerate().map(tile);
    tiles.map(|(start, tile): (usize, &mut [f32])| (start..start + tile.len() / n_cols, tile)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_element_once() {
        let mut matrix: Vec<f32> = vec![0.0; 3 * 10];
        for (i, tile) in column_tiles(&mut matrix, 10, 4).into_iter().enumerate() {
            for (t, piece) in tile.into_iter().enumerate() {
                assert_eq!(piece.len(), if i == 2 { 2 } else { 4 });
                piece.iter_mut().enumerate().for_each(|(j, x)| *x += (t * 10 + i * 4 + j) as f32);
            }
        }
        assert!(matrix.iter().enumerate().all(|(i, &x)| x == i as f32));
    }
}
