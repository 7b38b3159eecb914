// Where a kernel's result is in a buffer of words: as floats, in bytes (see bytes.wgsl), or both.

struct Place {
    floats: u32, // floats [T, C]: first word, or NOTHING
    bytes: u32,  // bytes [T, C / 16]: first word, or NOTHING
    scales: u32, // their scales [T, C / 16]: first word
    padding: u32,
}

const NOTHING: u32 = 0xffffffffu;
