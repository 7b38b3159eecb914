// What follows the product: out `[T, R]` = residual + activation(product + bias). Follows matmul/activation.wgsl and
// matmul/epilogue_*.wgsl, which says which of these there are.
//
// A dispatch may compute only a row range of a matrix of R rows that is split over several buffers.

@group(0) @binding(2) var<storage, read> bias: array<f32>;     // [R]
@group(0) @binding(3) var<storage, read> residual: array<f32>; // [T, R]
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [T, R]
@group(0) @binding(5) var<uniform> step: Step;
@group(0) @binding(6) var<uniform> target_rows: TargetRows;

struct TargetRows {
    n_rows: u32, // weight rows of this dispatch
    first: u32,  // number of the first among all R
    n_total: u32, // R
    epilogue: u32, // activation, with HAS_BIAS and HAS_RESIDUAL
}

const HAS_BIAS: u32 = 16u;
const HAS_RESIDUAL: u32 = 32u;

// T, at least 1: rows of x and out.
fn n_tokens() -> u32 {
    return max(step_n_rows(step), 1u);
}

fn load_bias(row: u32) -> f32 {
    if (epilogue() & HAS_BIAS) != 0u {
        return bias[target_rows.first + row];
    }
    return 0.0;
}

fn out_index(row: u32, token: u32) -> u32 {
    return token * target_rows.n_total + target_rows.first + row;
}

fn load_residual(row: u32, token: u32) -> f32 {
    if (epilogue() & HAS_RESIDUAL) != 0u {
        return residual[out_index(row, token)];
    }
    return 0.0;
}

fn activate(z: f32) -> f32 {
    return activation(z, epilogue());
}
