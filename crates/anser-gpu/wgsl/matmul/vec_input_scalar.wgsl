// The inputs of a mat-vec kernel, for any number of columns: rows start anywhere, and none is in bytes. Follows jobs.wgsl and
// columns.wgsl.

@group(0) @binding(1) var<storage, read> x: array<f32>;

fn input1(start: u32, column: u32, n_cols: u32) -> f32 {
    if column < n_cols {
        return x[start + column];
    }
    return 0.0;
}

// Four columns of the input of a column of the product; zeros beyond the last one.
fn input4(job: Job, column: u32, column4: u32) -> vec4<f32> {
    let n = job_n_cols(job);
    let start = job.x + column_token(column) * n;
    let c = 4u * column4;
    return vec4<f32>(
        input1(start, c, n),
        input1(start, c + 1u, n),
        input1(start, c + 2u, n),
        input1(start, c + 3u, n),
    );
}

// The gate of a row of the product, for the first token.
fn load_gate(job: Job, row: u32) -> f32 {
    return x[job.gate + job.first_row + row];
}
