// A token's operands, for any N.

@group(0) @binding(3) var<storage, read> r: array<f32>;  // [T, C]
@group(0) @binding(4) var<storage, read> w: array<f32>;  // [T, C]
@group(0) @binding(5) var<storage, read> k: array<f32>;  // [T, C]
@group(0) @binding(6) var<storage, read> v: array<f32>;  // [T, C]
@group(0) @binding(7) var<storage, read> kk: array<f32>; // [T, C]
@group(0) @binding(8) var<storage, read> a: array<f32>;  // [T, C]

// Four columns of the head whose values start at element `head`; beyond the last column there are zeros.
fn load_operands(head: u32, quad: u32) -> Operands {
    var operands = Operands();
    for (var j = 0u; j < 4u; j++) {
        if quad * 4u + j < HEAD_SIZE {
            let i = head + quad * 4u + j;
            operands.r[j] = r[i];
            operands.w[j] = w[i];
            operands.k[j] = k[i];
            operands.kk[j] = kk[i];
            operands.b[j] = kk[i] * a[i];
        }
    }
    return operands;
}

fn load_values(head: u32, quad: u32) -> vec4<f32> {
    var values = vec4<f32>(0.0);
    for (var j = 0u; j < 4u; j++) {
        if quad * 4u + j < HEAD_SIZE {
            values[j] = v[head + quad * 4u + j];
        }
    }
    return values;
}
