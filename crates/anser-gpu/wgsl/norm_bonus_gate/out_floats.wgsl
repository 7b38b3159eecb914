// The result of norm_bonus_gate.wgsl in f32.

@group(0) @binding(8) var<storage, read_write> out: array<f32>; // [T, C]

fn write_out(i: u32, value: f32) {
    out[i] = value;
}
