// The inputs of a mat-vec kernel, for any number of columns: rows start anywhere, and none is in bytes.

@group(0) @binding(1) var<storage, read> x: array<f32>;

fn input1(start: u32, column: u32, n_cols: u32) -> f32 {
    if column < n_cols {
        return x[start + column];
    }
    return 0.0;
}

// Four columns of a row of n_cols floats that starts at word `start`; zeros beyond the last column.
fn input4(start: u32, column4: u32, n_cols: u32) -> vec4<f32> {
    let c = 4u * column4;
    return vec4<f32>(
        input1(start, c, n_cols),
        input1(start, c + 1u, n_cols),
        input1(start, c + 2u, n_cols),
        input1(start, c + 3u, n_cols),
    );
}
