// The inputs of a mat-vec kernel by vec4s, where numbers of columns are multiples of 4. Follows jobs.wgsl and columns.wgsl.

@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;

// Four columns of the input of a column of the product; zeros beyond the last one.
fn input4(job: Job, column: u32, column4: u32) -> vec4<f32> {
    let n = job_n_cols(job);
    if (N_COLS != 0u && N_COLS % 16u == 0u) || column4 < n / 4u {
        return bitcast<vec4<f32>>(x[(job.x + column_token(column) * n) / 4u + column4]);
    }
    return vec4<f32>(0.0);
}

// Bytes of a piece, counted from the first token's first one.
fn input_bytes(job: Job, piece: u32) -> vec4<u32> {
    return x[job.x + piece];
}

// The gate of a row of the product, for the first token.
fn load_gate(job: Job, row: u32) -> f32 {
    let i = job.gate + job.first_row + row;
    return bitcast<f32>(x[i / 4u][i % 4u]);
}
