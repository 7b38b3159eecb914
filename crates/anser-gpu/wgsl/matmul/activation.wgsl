// What is applied to each element of a product.

const ACTIVATION_MASK: u32 = 15u;
const TANH: u32 = 1u;
const SIGMOID: u32 = 2u;
const RELU_SQUARED: u32 = 3u;
const DECAY: u32 = 4u;
const SILU: u32 = 5u;
const DECAY_6: u32 = 6u; // of RWKV-6

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

// The decay of RWKV-7; 0.606531 ≈ e^−½.
fn decay(z: f32) -> f32 {
    return exp(-0.606531 * sigmoid(z));
}

// The activation with the number in the low bits of `which`.
fn activation(z: f32, which: u32) -> f32 {
    switch which & ACTIVATION_MASK {
        case TANH: {
            return accurate_tanh(z);
        }
        case SIGMOID: {
            return sigmoid(z);
        }
        case RELU_SQUARED: {
            return select(z * z, 0.0, z <= 0.0); // NaN stays NaN, which max(z, 0.0) would turn into 0
        }
        case DECAY: {
            return decay(z);
        }
        case SILU: {
            return z * sigmoid(z);
        }
        case DECAY_6: {
            return exp(-exp(z));
        }
        default: {
            return z;
        }
    }
}
