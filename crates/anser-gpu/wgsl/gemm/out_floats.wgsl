// The result of a product in f32.

fn write_out(i: u32, value: f32) {
    out[i] = value;
}
