// Sums of whole rows become results: what follows the product, four neighbouring rows of a token at a time.
// Follows halves.wgsl, matmul/epilogue.wgsl and gemm/out_floats.wgsl or gemm/out_halves.wgsl.

fn result(r: u32, t: u32, sum: f32) -> f32 {
    return load_residual(r, t) + activate(finite_sum(sum) + load_bias(r));
}

// Rows from `r`; those beyond the last one are left out.
fn finish_rows(r: u32, t: u32, sums: vec4<f32>) {
    let is_aligned = (target_rows.n_total | target_rows.first) % 4u == 0u;
    if is_aligned && r + 4u <= target_rows.n_rows {
        let first = vec2<f32>(result(r, t, sums.x), result(r + 1u, t, sums.y));
        write_four(out_index(r, t), vec4<f32>(first, result(r + 2u, t, sums.z), result(r + 3u, t, sums.w)));
        return;
    }
    for (var i = 0u; i < 4u && r + i < target_rows.n_rows; i++) {
        write_out(out_index(r + i, t), result(r + i, t, sums[i]));
    }
}
