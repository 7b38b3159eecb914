// r, k and v of a head, each in a buffer of its own that the kernel declares: r and k by vec4s, `[T, C / 4]`, v `[T, C]`.

fn load_receptance(t: u32, column4: u32) -> vec4<f32> {
    return r[t * (N_COLS / 4u) + column4];
}

fn load_key(t: u32, column4: u32) -> vec4<f32> {
    return k[t * (N_COLS / 4u) + column4];
}

fn load_value(t: u32, column: u32) -> f32 {
    return v[t * N_COLS + column];
}
