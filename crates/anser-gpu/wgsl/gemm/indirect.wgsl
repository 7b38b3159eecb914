// Cooperative matrices of sums in f32 do not fit a result in halves.

const TAKES_MATRICES: bool = false;

fn load_residuals(place: Corner, i: u32, j: u32) -> MatC {
    return MatC();
}

fn write_matrix(sums: MatC, place: Corner, i: u32, j: u32) {}

fn stage(sums: MatC, first: u32, lane: u32) {
    coopStoreT(sums, &staging[first], 16u);
}
