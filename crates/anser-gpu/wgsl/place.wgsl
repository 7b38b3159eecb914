// Where a kernel's result is in a buffer of words: as floats, in halves, in bytes (see bytes.wgsl), or in several forms. Follows
// halves.wgsl.

struct Place {
    floats: u32, // floats [T, C]: first word, or NOTHING
    bytes: u32,  // bytes [T, C / 16]: first word, or NOTHING
    scales: u32, // their scales [T, C / 16]: first word
    halves: u32, // halves [T, C], two in a word: first word, or NOTHING
}

const NOTHING: u32 = 0xffffffffu;

// Two columns in halves.
fn to_halves(a: f32, b: f32) -> u32 {
    return pack2x16float(vec2<f32>(for_half(a), for_half(b)));
}
