// What a mat-vec kernel computes: several products, one after another in its grid. Each is a matrix, or a row range of
// one, times the rows of its input: out `[T, R]` = residual + activation(x · weightᵀ + bias). Follows step.wgsl and place.wgsl.

override N_JOBS: u32;

@group(0) @binding(2) var<storage, read> scales: array<vec2<f32>>; // of inputs in bytes, see bytes.wgsl
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<f32>; // [T, R]
@group(0) @binding(5) var<storage, read_write> out: array<u32>;
@group(0) @binding(6) var<uniform> step: Step;
@group(0) @binding(7) var<uniform> jobs: array<Job, MAX_JOBS>;

const MAX_JOBS: u32 = 8u;

struct Job {
    first_workgroup: u32, // of those that compute it
    n_rows: u32,          // of the matrix, or of the row range
    weights: u32,         // first vec4
    kind: u32,            // of the weights: one of the constants below
    x: u32,               // input: first word of floats [T, N_COLS], or first vec4 of bytes [T, N_PIECES]
    scales: u32,          // first pair of the scales of bytes [T, N_PIECES]
    bias: u32,            // first number, or NOTHING
    epilogue: u32,        // activation, with HAS_RESIDUAL
    n_total: u32,         // R
    first_row: u32,       // of the row range
    out: u32,             // floats [T, R]: first word, or NOTHING
    out_bytes: u32,       // bytes [T, R / 16]: first word, or NOTHING
    out_scales: u32,      // their scales [T, R / 16]: first word
    n_cols: u32,          // if N_COLS is 0: then they differ between jobs, whose weights are floats
    padding_0: u32,
    padding_1: u32,
}

const QUANTIZED: u32 = 0u; // of the type that the kernel is made for
const F16: u32 = 1u;
const BF16: u32 = 2u;
const F32: u32 = 3u;

const HAS_RESIDUAL: u32 = 32u;

// T, at least 1: rows of x and out.
fn n_tokens() -> u32 {
    return max(step_n_rows(step), 1u);
}

// The job of workgroup `number`.
fn job_of(number: u32) -> Job {
    var j = 0u;
    for (var i = 1u; i < N_JOBS; i++) {
        j += select(0u, 1u, number >= jobs[i].first_workgroup);
    }
    return jobs[j];
}

fn job_n_cols(job: Job) -> u32 {
    if N_COLS != 0u {
        return N_COLS;
    }
    return job.n_cols;
}

fn load_bias(job: Job, row: u32) -> f32 {
    if job.bias != NOTHING {
        return bias[job.bias + job.first_row + row];
    }
    return 0.0;
}

fn load_residual(job: Job, row: u32, token: u32) -> f32 {
    if (job.epilogue & HAS_RESIDUAL) != 0u {
        return residual[token * job.n_total + job.first_row + row];
    }
    return 0.0;
}
