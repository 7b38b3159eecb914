// The recurrence of RWKV-5 and RWKV-6. Per head and token, with the head's state S [N, N] (value row, key column):
// out = (S + v (u ∘ k)ᵀ)·r, then S ← S·diag(w) + v kᵀ.
// One workgroup takes a head of a sequence through all its tokens; an invocation has a row of S, which stays in memory.
// Follows step.wgsl.

override N_COLS: u32;    // C
override HEAD_SIZE: u32; // N
override DECAY_OF_TOKEN: bool; // whether w is [T, C] and not [C]
override WORKGROUP: u32;

@group(0) @binding(0) var<storage, read_write> state: array<f32>;    // [slots, H, N, N]
@group(0) @binding(1) var<storage, read> sequences: array<Sequence>; // [B]
@group(0) @binding(2) var<storage, read_write> out: array<f32>;      // [T, C]
@group(0) @binding(3) var<storage, read> r: array<f32>;              // [T, C]
@group(0) @binding(4) var<storage, read> k: array<f32>;              // [T, C]
@group(0) @binding(5) var<storage, read> v: array<f32>;              // [T, C]
@group(0) @binding(6) var<storage, read> w: array<f32>;              // [T, C] or [C]
@group(0) @binding(7) var<storage, read> u: array<f32>;              // [C]

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let sequence = sequences[workgroup.z];
    let head = workgroup.x * HEAD_SIZE;
    for (var row = local; row < HEAD_SIZE; row += WORKGROUP) {
        let to_row = (sequence.to_slot * N_COLS + head + row) * HEAD_SIZE;
        var from_row = (sequence.slot * N_COLS + head + row) * HEAD_SIZE;
        var is_zero = sequence.is_fresh == 1u;
        for (var t = sequence.first; t < sequence.first + sequence.n_tokens; t++) {
            let token = t * N_COLS + head;
            let decay = select(head, token, DECAY_OF_TOKEN);
            let value = v[token + row];
            var y = 0.0;
            for (var j = 0u; j < HEAD_SIZE; j++) {
                var s = 0.0;
                if !is_zero {
                    s = state[from_row + j];
                }
                let kv = value * k[token + j];
                y += (s + u[head + j] * kv) * r[token + j];
                state[to_row + j] = s * w[decay + j] + kv;
            }
            out[token + row] = y;
            from_row = to_row;
            is_zero = false;
        }
    }
}
