// What a mat-vec kernel computes: several products, one after another in its grid. Each is a matrix, or a row range of
// one, times the rows of its input: out `[T, R]` = residual + gate ∘ activation(x · weightᵀ + bias). Follows step.wgsl and place.wgsl;
// job_constants.wgsl or job_table.wgsl has them.

@group(0) @binding(5) var<storage, read_write> out: array<u32>;
@group(0) @binding(6) var<uniform> step: Step;

struct Job {
    first_workgroup: u32, // of those that compute it
    n_rows: u32,          // of the matrix, or of the row range
    weights: u32,         // first vec4
    kind: u32,            // of the weights: one of the constants below
    x: u32,               // input: first word of floats [T, N_COLS], first vec4 of bytes [T, N_PIECES], or see shift.wgsl
    scales: u32,          // first pair of the scales of bytes [T, N_PIECES]
    bias: u32,            // first number, or NOTHING
    epilogue: u32,        // activation, with HAS_RESIDUAL
    n_total: u32,         // R
    first_row: u32,       // of the row range
    out: u32,             // floats [T, R]: first word, or NOTHING
    out_bytes: u32,       // bytes [T, R / 16]: first word, or NOTHING
    out_scales: u32,      // their scales [T, R / 16]: first word
    n_cols: u32,          // if N_COLS is 0: then they differ between jobs, whose weights are floats
    norm_scale: u32,      // of shift.wgsl
    norm_offset: u32,
    gate: u32,            // first word of x that has the gate's floats [1, R], if there is one
    @size(12) residual: u32, // first number of the residual [T, R], if there is one
}

const QUANTIZED: u32 = 0u; // of the type that the kernel is made for

const HAS_RESIDUAL: u32 = 32u;

// T, at least 1: rows of x and out.
fn n_tokens() -> u32 {
    return max(step_n_rows(step), 1u);
}

fn job_n_cols(job: Job) -> u32 {
    if N_COLS != 0u {
        return N_COLS;
    }
    return job.n_cols;
}
