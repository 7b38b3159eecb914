// Floats on their way to halves, which hold numbers up to ±65504. A larger number becomes NaN, never another number. NaN then
// reaches every logit of its token and the states of all later layers, where the host finds it, and computes the step again
// in floats (src/attempt.rs). What is infinite or NaN before is NaN afterwards.

const LARGEST_HALF: f32 = 65504.0;
const LARGEST_FLOAT: f32 = 0x1.fffffep+127;
const NAN_BITS: u32 = 0x7fc00000u;

fn for_half(v: f32) -> f32 {
    return select(bitcast<f32>(bitcast<u32>(v) | NAN_BITS), v, abs(v) <= LARGEST_HALF);
}

// A sum of products of halves: a weight that was too large for a half has made it infinite.
fn finite_sum(sum: f32) -> f32 {
    return select(bitcast<f32>(bitcast<u32>(sum) | NAN_BITS), sum, abs(sum) <= LARGEST_FLOAT);
}

fn for_halves(v: vec4<f32>) -> vec4<f32> {
    let is_held = abs(v) <= vec4<f32>(LARGEST_HALF);
    return select(bitcast<vec4<f32>>(bitcast<vec4<u32>>(v) | vec4<u32>(NAN_BITS)), v, is_held);
}
