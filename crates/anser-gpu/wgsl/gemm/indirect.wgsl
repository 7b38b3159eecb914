// Cooperative matrices of sums in f32 do not fit a result in halves.

const TAKES_MATRICES: bool = false;

fn load_residuals(place: Place, i: u32, j: u32) -> MatC {
    return MatC();
}

fn write_matrix(sums: MatC, place: Place, i: u32, j: u32) {}

fn stage(sums: MatC, place: Place) {
    coopStore(sums, &staging[place.staging], 16u);
}
