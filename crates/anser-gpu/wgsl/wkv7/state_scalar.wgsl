// The states S of a layer's heads, for any N.

@group(0) @binding(0) var<storage, read_write> state: array<f32>; // [slots, H, N, N]

// Four columns of row `row` of all slots' and heads' rows; beyond the last column there are zeros.
fn load_quad(row: u32, quad: u32) -> vec4<f32> {
    var value = vec4<f32>(0.0);
    for (var j = 0u; j < 4u; j++) {
        if quad * 4u + j < HEAD_SIZE {
            value[j] = state[row * HEAD_SIZE + quad * 4u + j];
        }
    }
    return value;
}

fn store_quad(row: u32, quad: u32, value: vec4<f32>) {
    for (var j = 0u; j < 4u; j++) {
        if quad * 4u + j < HEAD_SIZE {
            state[row * HEAD_SIZE + quad * 4u + j] = value[j];
        }
    }
}
