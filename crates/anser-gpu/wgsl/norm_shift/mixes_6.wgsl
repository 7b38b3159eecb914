// The results of a token shift with six mixes.

@group(0) @binding(5) var<storage, read_write> out_0: array<f32>;  // [T, C], as the next ones
@group(0) @binding(6) var<storage, read_write> out_1: array<f32>;
@group(0) @binding(7) var<storage, read_write> out_2: array<f32>;
@group(0) @binding(8) var<storage, read_write> out_3: array<f32>;
@group(0) @binding(9) var<storage, read_write> out_4: array<f32>;
@group(0) @binding(10) var<storage, read_write> out_5: array<f32>;

fn write_mixes(row: u32, c: u32, current: f32, difference: f32) {
    out_0[row + c] = current + difference * mix_of(0u, c);
    out_1[row + c] = current + difference * mix_of(1u, c);
    out_2[row + c] = current + difference * mix_of(2u, c);
    out_3[row + c] = current + difference * mix_of(3u, c);
    out_4[row + c] = current + difference * mix_of(4u, c);
    out_5[row + c] = current + difference * mix_of(5u, c);
}
