// The result of a product in halves, for other products. Follows halves.wgsl.

@group(0) @binding(4) var<storage, read_write> halves_out: array<vec4<f16>>; // [T, R]

fn write_out(i: u32, value: f32) {
    halves_out[i / 4u][i % 4u] = f16(for_half(value));
}

// Four values from `i`, a multiple of 4.
fn write_four(i: u32, values: vec4<f32>) {
    halves_out[i / 4u] = vec4<f16>(for_halves(values));
}
