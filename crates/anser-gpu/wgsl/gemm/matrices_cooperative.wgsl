// The matrices of gemm.wgsl as cooperative matrices: a subgroup of SUBGROUP_LEN threads has one in its registers.

alias MatA = coop_mat16x16<f16, A>; // 16 tokens, 16 columns
alias MatB = coop_mat16x16<f16, B>; // 16 columns of 16 rows of weights
alias MatC = coop_mat16x16<f32, C>; // sums of 16 tokens for 16 rows

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    run(workgroup, local, subgroup, lane);
}

// Weights from vec4 `at` of their tile, whose rows lie PITCH apart.
fn load_rows(at: u32) -> MatB {
    return coopLoad<MatB>(&weight_tile[at], PITCH);
}

// Weights from vec4 `at` of a tile whose columns lie `pitch` apart.
fn load_columns(at: u32, pitch: u32) -> MatB {
    return coopLoadT<MatB>(&weight_tile[at], pitch);
}

// Inputs from vec4 `at` of their tile.
fn load_input(at: u32) -> MatA {
    return coopLoadT<MatA>(&input_tile[at], PITCH);
}
