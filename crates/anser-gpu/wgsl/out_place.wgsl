// Where a kernel's only result is in its buffer, see place.wgsl.

override OUT_FLOATS: u32;
override OUT_BYTES: u32;
override OUT_SCALES: u32;
override OUT_HALVES: u32;
