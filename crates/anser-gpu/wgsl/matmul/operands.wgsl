// What products read besides weights and inputs. Follows jobs.wgsl.

@group(0) @binding(2) var<storage, read> scales: array<vec2<f32>>; // of inputs in bytes, see bytes.wgsl
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> residual: array<f32>; // [T, R] of each job

// The scales of a piece of bytes.
fn input_scales(job: Job, piece: u32) -> vec2<f32> {
    return scales[job.scales + piece];
}

fn load_bias(job: Job, row: u32) -> f32 {
    if job.bias != NOTHING {
        return bias[job.bias + job.first_row + row];
    }
    return 0.0;
}

fn load_residual(job: Job, row: u32, token: u32) -> f32 {
    if (job.epilogue & HAS_RESIDUAL) != 0u {
        return residual[job.residual + token * job.n_total + job.first_row + row];
    }
    return 0.0;
}

// Inputs are there already.
fn make_input(job: Job, number: u32, index: u32) {}
