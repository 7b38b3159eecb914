// The result of a product in f32.

@group(0) @binding(4) var<storage, read_write> vec4s_out: array<vec4<f32>>; // [T, R]

fn write_out(i: u32, value: f32) {
    vec4s_out[i / 4u][i % 4u] = value;
}

// Four values from `i`, a multiple of 4.
fn write_four(i: u32, values: vec4<f32>) {
    vec4s_out[i / 4u] = values;
}
