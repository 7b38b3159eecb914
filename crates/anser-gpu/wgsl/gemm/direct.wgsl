// Cooperative matrices of sums in f32 go to a result in f32 as they are, where nothing else happens to them.

const TAKES_MATRICES: bool = true;

fn load_residuals(place: Corner, i: u32, j: u32) -> MatC {
    return coopLoad<MatC>(&residual[corner(place, i, j)], target_rows.n_total);
}

fn write_matrix(sums: MatC, place: Corner, i: u32, j: u32) {
    let pitch = target_rows.n_total;
    coopStore(sums, &out[corner(place, i, j)], pitch);
}

fn stage(sums: MatC, place: Corner) {
    coopStore(sums, &staging[place.staging], 16u);
}
