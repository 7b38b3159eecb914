// The weights that a kernel reads: matrices whose rows are whole vec4s.

@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;
