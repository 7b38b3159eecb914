// A kernel's results in f32.

alias Out = f32;

fn to_out(value: f32) -> Out {
    return value;
}
