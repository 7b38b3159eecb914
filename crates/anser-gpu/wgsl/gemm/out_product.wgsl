// The sums are those of whole rows: the rest of the product follows at once. Follows halves.wgsl and
// matmul/epilogue.wgsl; gemm/direct.wgsl or gemm/indirect*.wgsl brings matrices to memory.

const TAKES_ALL_MATRICES: bool = false;

var<workgroup> staging: array<f32, N_STAGING>; // [subgroups, 16, 16]

// Where the `i`, `j`-th matrix starts in out and residual.
fn corner(place: Corner, i: u32, j: u32) -> u32 {
    return out_index(place.row + 16u * i, place.token + 16u * j);
}

// Writes a matrix that something still happens to, or that reaches beyond the end: its elements' places are known in
// workgroup memory only. The whole workgroup must call it.
fn finish(sums: MatC, place: Corner, i: u32, j: u32) {
    stage(sums, place);
    workgroupBarrier();
    for (var at = place.lane; at < 256u; at += SUBGROUP_LEN) {
        let r = place.row + 16u * i + at % 16u;
        let t = place.token + 16u * j + at / 16u;
        if r < target_rows.n_rows && t < n_tokens() {
            let sum = finite_sum(staging[place.staging + at]);
            write_out(out_index(r, t), load_residual(r, t) + activate(sum + load_bias(r)));
        }
    }
    workgroupBarrier();
}
