// r, k and v of a head in the buffer `values` of vec4s, which the kernel declares. Its argument VALUES says where.

// First vec4 of r, k and v among the values, [T, C / 4] each.
struct Values {
    receptance: u32,
    key: u32,
    value: u32,
}

fn load_receptance(t: u32, column4: u32) -> vec4<f32> {
    return values[VALUES.receptance + t * (N_COLS / 4u) + column4];
}

fn load_key(t: u32, column4: u32) -> vec4<f32> {
    return values[VALUES.key + t * (N_COLS / 4u) + column4];
}

fn load_value(t: u32, column: u32) -> f32 {
    return values[VALUES.value + (t * N_COLS + column) / 4u][column % 4u];
}
