// The operands of a head, each computed by a kernel of its own. Comes before head/values.wgsl.

override DECAY_OF_TOKEN: bool; // whether w is [T, C] and not [C]

@group(0) @binding(5) var<storage, read> r: array<vec4<f32>>; // [T, C / 4]
@group(0) @binding(6) var<storage, read> k: array<vec4<f32>>; // [T, C / 4]
@group(0) @binding(7) var<storage, read> v: array<f32>;       // [T, C]
@group(0) @binding(8) var<storage, read> w: array<vec4<f32>>; // [T, C / 4] or [C / 4]
@group(0) @binding(9) var<storage, read> g: array<f32>;       // [T, C]

fn load_gate(t: u32, column: u32) -> f32 {
    return g[t * N_COLS + column];
}

// It is read where it is needed.
fn stage_decay(t: u32, head: u32, index: u32) {}

// The decay of four columns: quad `quad` of the head.
fn decay4(t: u32, head: u32, quad: u32) -> vec4<f32> {
    let column4 = head / 4u + quad;
    return w[select(column4, t * (N_COLS / 4u) + column4, DECAY_OF_TOKEN)];
}
