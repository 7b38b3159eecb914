// What follows the product: out `[T, R]` = residual + activation(product + bias).
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

const ACTIVATION_MASK: u32 = 15u;
const TANH: u32 = 1u;
const SIGMOID: u32 = 2u;
const RELU_SQUARED: u32 = 3u;
const DECAY: u32 = 4u;
const HAS_BIAS: u32 = 16u;
const HAS_RESIDUAL: u32 = 32u;

// T, at least 1: rows of x and out.
fn n_tokens() -> u32 {
    return max(step_n_rows(step), 1u);
}

fn load_bias(row: u32) -> f32 {
    if (target_rows.epilogue & HAS_BIAS) != 0u {
        return bias[target_rows.first + row];
    }
    return 0.0;
}

fn out_index(row: u32, token: u32) -> u32 {
    return token * target_rows.n_total + target_rows.first + row;
}

fn load_residual(row: u32, token: u32) -> f32 {
    if (target_rows.epilogue & HAS_RESIDUAL) != 0u {
        return residual[out_index(row, token)];
    }
    return 0.0;
}

fn sigmoid(z: f32) -> f32 {
    return 1.0 / (1.0 + exp(-z));
}

// Drivers compute the built-in tanh from two exponentials: it is inaccurate near 0 and may be NaN far from it.
fn accurate_tanh(z: f32) -> f32 {
    if abs(z) < 0.25 {
        let s = z * z;
        return z * (1.0 + s * (-1.0 / 3.0 + s * (2.0 / 15.0 + s * (-17.0 / 315.0 + s * (62.0 / 2835.0)))));
    }
    return sign(z) * (1.0 - 2.0 / (exp(2.0 * abs(z)) + 1.0));
}

fn activate(z: f32) -> f32 {
    switch target_rows.epilogue & ACTIVATION_MASK {
        case TANH: {
            return accurate_tanh(z);
        }
        case SIGMOID: {
            return sigmoid(z);
        }
        case RELU_SQUARED: {
            let positive = max(z, 0.0);
            return positive * positive;
        }
        case DECAY: {
            return exp(-0.606531 * sigmoid(z));
        }
        default: {
            return z;
        }
    }
}
