// Adds up what the workgroups that share the columns of a product have summed, and finishes it. One invocation for four rows;
// workgroups along x cover the rows, along y the tokens. Follows gemm/out_rows.wgsl.

@group(0) @binding(0) var<storage, read> sums: array<vec4<f32>>; // [n_splits, T, R], T and R in whole tiles
@group(0) @binding(1) var<uniform> shape: vec4<u32>;             // tile's rows and tokens, n_splits, 0

override WORKGROUP: u32;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = 4u * id.x;
    let token = id.y;
    if row >= target_rows.n_rows {
        return;
    }
    let n_rows = (target_rows.n_rows + shape.x - 1u) / shape.x * shape.x;
    let n_padded = (n_tokens() + shape.y - 1u) / shape.y * shape.y;
    var sum = vec4<f32>();
    for (var i = 0u; i < shape.z; i++) {
        sum += sums[((i * n_padded + token) * n_rows + row) / 4u];
    }
    finish_rows(row, token, sum);
}
