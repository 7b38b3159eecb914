// The recurrence of RWKV-4. Per channel and token, with the channel's state a, b, p (b = 0 before the first token):
// q = max(p, u + k), out = (e^(p−q)·a + e^(u+k−q)·v) / (e^(p−q)·b + e^(u+k−q)), then
// q = max(p + w, k), a ← e^(p+w−q)·a + e^(k−q)·v, b ← e^(p+w−q)·b + e^(k−q), p ← q.
// One invocation takes a channel of a sequence through all its tokens. Follows step.wgsl.

override N_COLS: u32; // C
override WORKGROUP: u32;

@group(0) @binding(0) var<storage, read_write> state: array<f32>;    // [slots, 3, C]
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>; // [B]
@group(0) @binding(2) var<storage, read_write> out: array<f32>;      // [T, C]
@group(0) @binding(3) var<storage, read> k: array<f32>;              // [T, C]
@group(0) @binding(4) var<storage, read> v: array<f32>;              // [T, C]
@group(0) @binding(5) var<storage, read> w: array<f32>;              // [C]
@group(0) @binding(6) var<storage, read> u: array<f32>;              // [C]

const NOTHING: f32 = -1e30; // what it weighs vanishes

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let c = workgroup.x * WORKGROUP + local;
    if c >= N_COLS {
        return;
    }
    let sequence = sequences[workgroup.z];
    var a = 0.0;
    var b = 0.0;
    var p = NOTHING;
    if sequence.is_fresh == 0u {
        let from_slot = sequence.slot * 3u * N_COLS + c;
        a = state[from_slot];
        b = state[from_slot + N_COLS];
        p = select(state[from_slot + 2u * N_COLS], NOTHING, b == 0.0);
    }
    for (var t = sequence.first; t < sequence.first + sequence.n_tokens; t++) {
        let key = k[t * N_COLS + c];
        let value = v[t * N_COLS + c];
        var q = max(p, u[c] + key);
        var past = exp(p - q);
        var present = exp(u[c] + key - q);
        out[t * N_COLS + c] = (past * a + present * value) / (past * b + present);
        q = max(p + w[c], key);
        past = exp(p + w[c] - q);
        present = exp(key - q);
        a = past * a + present * value;
        b = past * b + present;
        p = q;
    }
    let to_slot = sequence.to_slot * 3u * N_COLS + c;
    state[to_slot] = a;
    state[to_slot + N_COLS] = b;
    state[to_slot + 2u * N_COLS] = p;
}
