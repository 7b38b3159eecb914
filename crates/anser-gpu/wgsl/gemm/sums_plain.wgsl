// Sums of matrices_plain.wgsl go to memory element by element.

fn write_matrix(sums: MatC, place: Place, i: u32, j: u32) {
    let first = corner(place, i, j);
    for (var i = 0u; i < 256u / SUBGROUP_LEN; i++) {
        let e = place.lane + i * SUBGROUP_LEN;
        sums_out[first + e / 16u * n_padded_rows() + e % 16u] = sums.sums[i];
    }
}
