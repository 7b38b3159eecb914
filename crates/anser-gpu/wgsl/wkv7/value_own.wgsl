// The value of a head in the first layer: its own.

fn value_of(i: u32) -> f32 {
    return v[i];
}
