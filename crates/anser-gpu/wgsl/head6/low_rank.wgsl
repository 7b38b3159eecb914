// The operands of a head, of which the decay is computed here: w = exp(−exp(w0 + D2 z)), the head's rows of the second matrix of
// a low-rank pair. Follows weight/low_rank.wgsl, and comes before head/values_together.wgsl.

@group(0) @binding(5) var<storage, read> weights: array<vec4<u32>>; // the layer's
@group(0) @binding(6) var<storage, read> values: array<vec4<f32>>;  // r, k, v, g and the input of D2
@group(0) @binding(7) var<storage, read> bias: array<f32>;          // the layer's vectors

// Where the other operands lie: the kernel's argument OPERANDS.
struct Operands {
    gate: u32,       // first vec4 of g in values [T, C / 4]
    input: u32,      // that of z [T, RANK / 4]
    decay: u32,      // first vec4 of D2 in weights
    decay_bias: u32, // first number of w0
}

fn load_gate(t: u32, column: u32) -> f32 {
    return values[OPERANDS.gate + (t * N_COLS + column) / 4u][column % 4u];
}

var<workgroup> staged_w: array<f32, N_ROWS>;

// The lanes of a row share its pieces. The whole workgroup must call it.
fn stage_decay(t: u32, head: u32, index: u32) {
    let row = head + min(index / N_LANES, HEAD_SIZE - 1u);
    let input = OPERANDS.input + t * (RANK / 4u);
    var sum = 0.0;
    for (var p = index % N_LANES; p < RANK_PIECES; p += N_LANES) {
        sum += low_rank_product(OPERANDS.decay, row, input, p);
    }
    sum = lanes_sum(sum, index);
    if index % N_LANES == 0u {
        staged_w[index / N_LANES] = exp(-exp(sum + bias[OPERANDS.decay_bias + row]));
    }
    workgroupBarrier();
}

// The decay of four columns: quad `quad` of the head.
fn decay4(t: u32, head: u32, quad: u32) -> vec4<f32> {
    let c = 4u * quad;
    return vec4<f32>(staged_w[c], staged_w[c + 1u], staged_w[c + 2u], staged_w[c + 3u]);
}
