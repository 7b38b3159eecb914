// A kernel's results in halves, for products; beyond ±65504 values saturate.

alias Out = f16;

fn to_out(value: f32) -> Out {
    return f16(clamp(value, -65504.0, 65504.0));
}
