// A kernel's results in halves, for products. Follows halves.wgsl.

alias Out = f16;

fn to_out(value: f32) -> Out {
    return f16(for_half(value));
}
