// The inputs of a mat-vec kernel by vec4s, where numbers of columns are multiples of 4.

@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;

// Four columns of a row of n_cols floats that starts at word `start`; zeros beyond the last column.
fn input4(start: u32, column4: u32, n_cols: u32) -> vec4<f32> {
    if (N_COLS != 0u && N_COLS % 16u == 0u) || column4 < n_cols / 4u {
        return bitcast<vec4<f32>>(x[start / 4u + column4]);
    }
    return vec4<f32>(0.0);
}

// A piece of bytes.
fn input_bytes(at: u32) -> vec4<u32> {
    return x[at];
}
