// Cooperative matrices of sums go to memory as they are.

fn write_matrix(sums: MatC, place: Corner, i: u32, j: u32) {
    let pitch = n_padded_rows();
    coopStoreT(sums, &sums_out[corner(place, i, j)], pitch);
}
