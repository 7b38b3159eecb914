// The sums are those of some of the columns: sum.wgsl adds them up.

@group(0) @binding(4) var<storage, read_write> sums_out: array<f32>; // [N_SPLITS, T, R], T and R in whole tiles

const TAKES_ALL_MATRICES: bool = true;
const TAKES_MATRICES: bool = true;

fn write_matrix(sums: MatC, place: Place, i: u32, j: u32) {
    let n_rows = (target_rows.n_rows + TILE_M - 1u) / TILE_M * TILE_M;
    let n_padded = (n_tokens() + TILE_N - 1u) / TILE_N * TILE_N;
    let token = place.split * n_padded + place.token + 16u * j;
    let at = token * n_rows + place.row + 16u * i;
    coopStore(sums, &sums_out[at], n_rows);
}

fn load_residuals(place: Place, i: u32, j: u32) -> MatC {
    return MatC();
}

fn finish(sums: MatC, place: Place, i: u32, j: u32) {}
