// The result of a product in halves, for other products; beyond ±65504 values saturate.

@group(0) @binding(4) var<storage, read_write> halves_out: array<f16>; // [T, R]

fn write_out(i: u32, value: f32) {
    halves_out[i] = f16(clamp(value, -65504.0, 65504.0));
}
