// A product in f32 takes matrices of sums as they are.

const TAKES_MATRICES: bool = true;

fn write_matrix(sums: MatC, place: Place, i: u32, j: u32) {
    let pitch = target_rows.n_total;
    coopStore(sums, &out[corner(place, i, j)], pitch);
}
