// Types of float weights, as the kind of a matrix.

const F16: u32 = 1u;
const BF16: u32 = 2u;
const F32: u32 = 3u;
