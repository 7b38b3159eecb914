// Matrices of matrices_plain.wgsl reach memory element by element.

const TAKES_MATRICES: bool = false;

fn load_residuals(place: Corner, i: u32, j: u32) -> MatC {
    return MatC();
}

fn write_matrix(sums: MatC, place: Corner, i: u32, j: u32) {}

fn stage(sums: MatC, first: u32, lane: u32) {
    for (var i = 0u; i < 256u / SUBGROUP_LEN; i++) {
        staging[first + lane + i * SUBGROUP_LEN] = sums.sums[i];
    }
}
