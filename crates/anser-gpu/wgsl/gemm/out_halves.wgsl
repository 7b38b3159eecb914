// The result of a product in halves, for other products. Follows halves.wgsl.

@group(0) @binding(4) var<storage, read_write> halves_out: array<f16>; // [T, R]

fn write_out(i: u32, value: f32) {
    halves_out[i] = f16(for_half(value));
}
