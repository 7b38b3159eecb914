// The sums are those of some of the columns: sum.wgsl adds them up. gemm/sums_*.wgsl writes them.

@group(0) @binding(4) var<storage, read_write> sums_out: array<f32>; // [N_SPLITS, T, R], T and R in whole tiles

const TAKES_ALL_MATRICES: bool = true;
const TAKES_MATRICES: bool = true;

// Rows of the sums, in whole tiles.
fn n_padded_rows() -> u32 {
    return (target_rows.n_rows + TILE_M - 1u) / TILE_M * TILE_M;
}

// Where the `i`, `j`-th matrix starts.
fn corner(place: Corner, i: u32, j: u32) -> u32 {
    let n_padded = (n_tokens() + TILE_N - 1u) / TILE_N * TILE_N;
    return (place.split * n_padded + place.token + 16u * j) * n_padded_rows() + place.row + 16u * i;
}

fn load_residuals(place: Corner, i: u32, j: u32) -> MatC {
    return MatC();
}

fn finish(sums: MatC, place: Corner, i: u32, j: u32) {}
