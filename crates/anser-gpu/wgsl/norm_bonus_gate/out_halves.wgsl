// The result of norm_bonus_gate.wgsl in halves, for products; beyond ±65504 values saturate.

@group(0) @binding(8) var<storage, read_write> out: array<f16>; // [T, C]

fn write_out(i: u32, value: f32) {
    out[i] = f16(clamp(value, -65504.0, 65504.0));
}
