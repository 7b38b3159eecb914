// The value of a head after the first layer: mixed with the first layer's.

@group(0) @binding(11) var<storage, read> v_first: array<f32>; // [T, C]
@group(0) @binding(12) var<storage, read> v_gate: array<f32>;  // [T, C]

fn value_of(i: u32) -> f32 {
    return v[i] + (v_first[i] - v[i]) * v_gate[i];
}
