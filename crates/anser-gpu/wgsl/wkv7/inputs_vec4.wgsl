// A token's operands by vec4s of columns, where N is a multiple of 4.

@group(0) @binding(3) var<storage, read> r: array<vec4<f32>>;  // [T, C / 4]
@group(0) @binding(4) var<storage, read> w: array<vec4<f32>>;  // [T, C / 4]
@group(0) @binding(5) var<storage, read> k: array<vec4<f32>>;  // [T, C / 4]
@group(0) @binding(6) var<storage, read> v: array<vec4<f32>>;  // [T, C / 4]
@group(0) @binding(7) var<storage, read> kk: array<vec4<f32>>; // [T, C / 4]
@group(0) @binding(8) var<storage, read> a: array<vec4<f32>>;  // [T, C / 4]

// Four columns of the head whose values start at element `head`; beyond the last column there are zeros.
fn load_operands(head: u32, quad: u32) -> Operands {
    if quad * 4u >= HEAD_SIZE {
        return Operands();
    }
    let i = head / 4u + quad;
    return Operands(r[i], w[i], k[i], kk[i], kk[i] * a[i]);
}

fn load_values(head: u32, quad: u32) -> vec4<f32> {
    if quad * 4u >= HEAD_SIZE {
        return vec4<f32>(0.0);
    }
    return v[head / 4u + quad];
}
