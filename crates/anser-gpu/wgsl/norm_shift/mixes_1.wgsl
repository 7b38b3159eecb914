// The result of a token shift with one mix.

@group(0) @binding(5) var<storage, read_write> out: array<f32>; // [T, C]

fn write_mixes(row: u32, c: u32, current: f32, difference: f32) {
    out[row + c] = current + difference * mix_of(0u, c);
}
