// The states S of a layer's heads by vec4s of columns, where N is a multiple of 4.

@group(0) @binding(0) var<storage, read_write> state: array<vec4<f32>>; // [slots, H, N, N / 4]

// Four columns of row `row` of all slots' and heads' rows; beyond the last column there are zeros.
fn load_quad(row: u32, quad: u32) -> vec4<f32> {
    if quad * 4u < HEAD_SIZE {
        return state[row * (HEAD_SIZE / 4u) + quad];
    }
    return vec4<f32>(0.0);
}

fn store_quad(row: u32, quad: u32, value: vec4<f32>) {
    if quad * 4u < HEAD_SIZE {
        state[row * (HEAD_SIZE / 4u) + quad] = value;
    }
}
