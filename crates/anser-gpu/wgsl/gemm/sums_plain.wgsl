// Sums of matrices_plain.wgsl go to memory element by element.

fn write_matrix(sums: MatC, place: Corner, i: u32, j: u32) {
    let first = corner(place, i, j);
    for (var n = 0u; n < 256u / SUBGROUP_LEN; n++) {
        let e = place.lane + n * SUBGROUP_LEN;
        sums_out[first + e / 16u * n_padded_rows() + e % 16u] = sums.sums[n];
    }
}
