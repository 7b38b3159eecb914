// Cooperative matrices of sums in f32 go to a result in f32 as they are, where nothing else happens to them.

const TAKES_MATRICES: bool = true;

fn load_residuals(place: Corner, i: u32, j: u32) -> MatC {
    return coopLoadT<MatC>(&residual[corner(place, i, j)], target_rows.n_total);
}

fn write_matrix(sums: MatC, place: Corner, i: u32, j: u32) {
    let at = corner(place, i, j) / 4u;
    let pitch = target_rows.n_total / 4u;
    coopStoreT(sums, &vec4s_out[at], pitch);
}

fn stage(sums: MatC, first: u32, lane: u32) {
    coopStoreT(sums, &staging[first], 16u);
}
