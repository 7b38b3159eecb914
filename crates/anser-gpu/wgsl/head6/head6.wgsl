// One head of one token of RWKV-5 or RWKV-6 between its projections and the output projection, for steps whose sequences have one
// token each:
//     y = (S + v (u ∘ k)ᵀ)·r,  S ← S·diag(w) + v kᵀ,  out = (norm(y) ∘ weight + bias) ∘ g
// Bound by memory: S `[N, N]` is read and written once. One workgroup per head and token; N_LANES threads share a row of S and keep
// it in registers. N is a multiple of 4. Follows step.wgsl and head/*.wgsl.

override N_COLS: u32;          // C
override VECTOR_STRIDE: u32;   // elements between the vectors of the norm
override DECAY_OF_TOKEN: bool; // whether w is [T, C] and not [C]
override HAS_GATE: bool;

@group(0) @binding(1) var<storage, read> tokens: array<Token>; // [T]
@group(0) @binding(3) var<storage, read> r: array<vec4<f32>>;  // [T, C / 4]
@group(0) @binding(4) var<storage, read> k: array<vec4<f32>>;  // [T, C / 4]
@group(0) @binding(5) var<storage, read> v: array<f32>;        // [T, C]
@group(0) @binding(6) var<storage, read> w: array<vec4<f32>>;  // [T, C / 4] or [C / 4]
@group(0) @binding(7) var<storage, read> u: array<vec4<f32>>;  // [C / 4]
@group(0) @binding(8) var<storage, read> g: array<f32>;        // [T, C]
@group(0) @binding(9) var<storage, read> norm: array<f32>;     // [2, C] weight and bias

fn run(workgroup: vec3<u32>, index: u32) {
    let head = workgroup.x * HEAD_SIZE;
    let t = workgroup.y;
    let token = tokens[t];
    let row = index / N_LANES;
    let lane = index % N_LANES;
    let state_row = token.slot * N_COLS + head + row;

    // Everything is asked for at the start, so that the device's memory is waited for once.
    let column = min(index, HEAD_SIZE - 1u);
    let value = v[t * N_COLS + head + min(row, HEAD_SIZE - 1u)];
    let norm_weight = norm[head + column];
    let norm_bias = norm[VECTOR_STRIDE + head + column];
    var gate = 1.0;
    if HAS_GATE {
        gate = g[t * N_COLS + head + column];
    }
    clear_row();
    if row < HEAD_SIZE && token.previous == PREVIOUS_STATE {
        load_row(state_row, lane);
    }

    var sums = vec4<f32>(0.0);
    for (var i = 0u; i < QUADS; i++) {
        let quad = i * N_LANES + lane;
        if 4u * quad < HEAD_SIZE {
            let of_vector = head / 4u + quad;
            let of_token = t * (N_COLS / 4u) + of_vector;
            let kv = value * k[of_token];
            sums += (s[i] + u[of_vector] * kv) * r[of_token];
            s[i] = s[i] * w[select(of_vector, of_token, DECAY_OF_TOKEN)] + kv;
        }
    }
    let y = lanes_sum(sum4(sums), index);
    if row < HEAD_SIZE {
        store_row(state_row + (token.to_slot - token.slot) * N_COLS, lane);
        if lane == 0u {
            staged_y[row] = y;
        }
    }
    workgroupBarrier();
    let normed = norm_of_head(column, lane, index) * norm_weight + norm_bias;
    store_result(t, head, index, normed * gate);
}
