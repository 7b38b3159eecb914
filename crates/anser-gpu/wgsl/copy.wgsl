// to = from, for measurements: every invocation copies vec4s that lie a grid apart.

override WORKGROUP: u32;
override N_WORKGROUPS: u32;
override N_EACH: u32; // vec4s of an invocation

@group(0) @binding(0) var<storage, read> from_words: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> to_words: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var i = 0u; i < N_EACH; i++) {
        let at = id.x + i * WORKGROUP * N_WORKGROUPS;
        to_words[at] = from_words[at];
    }
}
