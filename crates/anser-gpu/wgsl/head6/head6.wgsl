// One head of one token of RWKV-5 or RWKV-6 between its projections and the output projection, for steps whose sequences have one
// token each:
//     y = (S + v (u ∘ k)ᵀ)·r,  S ← S·diag(w) + v kᵀ,  out = (norm(y) ∘ weight + bias) ∘ g
// Bound by memory: S `[N, N]` is read and written once. One workgroup per head and token; N_LANES threads share a row of S and keep
// it in registers. N is a multiple of 4. Follows step.wgsl and head/*.wgsl; head6/values.wgsl or head6/low_rank.wgsl, which follows,
// has the operands.

override VECTOR_STRIDE: u32; // elements between the vectors of the norm
override HAS_GATE: bool;

@group(0) @binding(1) var<storage, read> tokens: array<Token>; // [T]
@group(0) @binding(3) var<storage, read> u: array<vec4<f32>>;  // [C / 4]
@group(0) @binding(4) var<storage, read> norm: array<f32>;     // [2, C] weight and bias

fn run(workgroup: vec3<u32>, index: u32) {
    let head = workgroup.x * HEAD_SIZE;
    let t = workgroup.y;
    let token = tokens[t];
    let row = index / N_LANES;
    let lane = index % N_LANES;
    let state_row = token.slot * N_COLS + head + row;

    // Everything is asked for at the start, so that the device's memory is waited for once.
    let column = min(index, HEAD_SIZE - 1u);
    let value = load_value(t, head + min(row, HEAD_SIZE - 1u));
    let norm_weight = norm[head + column];
    let norm_bias = norm[VECTOR_STRIDE + head + column];
    var gate = 1.0;
    if HAS_GATE {
        gate = load_gate(t, head + column);
    }
    clear_row();
    if row < HEAD_SIZE && token.previous == PREVIOUS_STATE {
        load_row(state_row, lane);
    }
    stage_decay(t, head, index);

    var sums = vec4<f32>(0.0);
    for (var i = 0u; i < QUADS; i++) {
        let quad = i * N_LANES + lane;
        if 4u * quad < HEAD_SIZE {
            let column4 = head / 4u + quad;
            let kv = value * load_key(t, column4);
            sums += (s[i] + u[column4] * kv) * load_receptance(t, column4);
            s[i] = s[i] * decay4(t, head, quad) + kv;
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
