// All that happens to one head of one token between its projections and the output projection: the mix with the first
// layer's value, key control, the recurrence, norm, bonus and gate. For steps whose sequences have one token each; one
// workgroup per head and token. N is a multiple of 4. Follows step.wgsl, head/*.wgsl
// and weight/piece.wgsl (N_COLS = C); head7/values.wgsl or head7/low_rank.wgsl, which follows, has the operands.
//
// Everything is fetched at the start, so that the device's memory is waited for once.

override VECTOR_STRIDE: u32; // elements between the vectors of a run
override IS_MIXED: bool;     // whether values are mixed with the first layer's

@group(0) @binding(1) var<storage, read> tokens: array<Token>;   // [T]
@group(0) @binding(3) var<storage, read> key: array<vec4<f32>>;  // [2, C / 4] k_k, k_a
@group(0) @binding(4) var<storage, read> gate: array<f32>;       // [3, C] r_k, norm weight, norm bias

const MIN_LENGTH: f32 = 1e-12;

// The head's operands by column, padded with zeros.
var<workgroup> staged_r: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_w: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_k: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_kk: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_b: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_r_k: array<f32, N_ROWS>;
var<workgroup> staged_v: array<f32, N_ROWS>;

// What has been made of low-rank products, by column of the head.
struct Rates {
    w: f32,
    a: f32,
    g: f32,
    v: f32, // how much of the first layer's value to take
}

var<workgroup> rates: array<Rates, N_ROWS>;

fn run(workgroup: vec3<u32>, index: u32) {
    let head = workgroup.x * HEAD_SIZE;
    let t = workgroup.y;
    let token = tokens[t];
    let row = index / N_LANES;
    let lane = index % N_LANES;
    let state_row = token.slot * N_COLS + head + row;

    fetch_rates(head, index);
    // Invocation `index` has column `index`, beyond the last one that one again.
    let column = min(index, HEAD_SIZE - 1u);
    var own = 0.0;
    var first = 0.0;
    var norm_weight = 0.0;
    var norm_bias = 0.0;
    var r_k = 0.0;
    if index < HEAD_SIZE {
        own = load_value(t, head + column);
        first = load_first_value(t, head + column);
        norm_weight = gate[VECTOR_STRIDE + head + column];
        norm_bias = gate[2u * VECTOR_STRIDE + head + column];
        r_k = gate[head + column];
    }
    var r4 = vec4<f32>(0.0);
    var k4 = vec4<f32>(0.0);
    var k_k4 = vec4<f32>(0.0);
    var k_a4 = vec4<f32>(0.0);
    if index < HEAD_SIZE / 4u {
        let quad = head / 4u + index;
        r4 = load_receptance(t, quad);
        k4 = load_key(t, quad);
        k_k4 = key[quad];
        k_a4 = key[VECTOR_STRIDE / 4u + quad];
    }
    // Where the state is, is known once the token is there: what is asked for after it would wait, too.
    clear_row();
    if row < HEAD_SIZE && token.previous == PREVIOUS_STATE {
        load_row(state_row, lane);
    }
    stage_rates(t, head, index);
    workgroupBarrier();

    if index < ROW_QUADS {
        stage(index, r4, k4, k_k4, k_a4);
    }
    var value = own;
    if IS_MIXED {
        value += (first - own) * rates[column].v;
    }
    if index < HEAD_SIZE {
        staged_v[index] = value;
        staged_r_k[index] = r_k;
    }
    workgroupBarrier();

    // Σ (k ∘ k_k)² and Σ r ∘ k ∘ r_k
    var squares = vec4<f32>(0.0);
    var bonus = 0.0;
    for (var i = 0u; i < QUADS; i++) {
        let q = i * N_LANES + lane;
        squares += staged_kk[q] * staged_kk[q];
        let products = staged_r[q] * staged_k[q];
        for (var j = 0u; j < 4u; j++) {
            bonus += products[j] * staged_r_k[min(q * 4u + j, HEAD_SIZE - 1u)];
        }
    }
    let length = max(sqrt(lanes_sum(sum4(squares), index)), MIN_LENGTH);
    bonus = lanes_sum(bonus, index);

    // The recurrence with kk as it is before it has length 1: what it and kk ∘ a are divided by is put on the row's sum.
    let y = advance_row_scaled(0u, index, staged_v[min(row, HEAD_SIZE - 1u)], 1.0 / (length * length));
    if row < HEAD_SIZE {
        store_row(state_row + (token.to_slot - token.slot) * N_COLS, lane);
        if lane == 0u {
            staged_y[row] = y;
        }
    }
    workgroupBarrier();

    let normed = norm_of_head(column, lane, index) * norm_weight + norm_bias;
    store_result(t, head, index, (normed + bonus * value) * rates[column].g);
}

// One token, whose operands are staged from quad `first`: S ← S·diag(w) − (S·kk)(kk ∘ a)ᵀ + v kᵀ. Returns the row's
// element of S·r. The whole workgroup must call it.
fn advance_row(first: u32, index: u32, v: f32) -> f32 {
    return advance_row_scaled(first, index, v, 1.0);
}

// The same for staged kk and kk ∘ a whose product has to be multiplied by `scale`.
fn advance_row_scaled(first: u32, index: u32, v: f32, scale: f32) -> f32 {
    let at = first + index % N_LANES;
    var removed = vec4<f32>(0.0);
    for (var i = 0u; i < QUADS; i++) {
        removed += s[i] * staged_kk[at + i * N_LANES];
    }
    let s_kk = scale * lanes_sum(sum4(removed), index);
    var y = vec4<f32>(0.0);
    for (var i = 0u; i < QUADS; i++) {
        let q = at + i * N_LANES;
        s[i] = s[i] * staged_w[q] - s_kk * staged_b[q] + v * staged_k[q];
        y += s[i] * staged_r[q];
    }
    return lanes_sum(sum4(y), index);
}

// Stages four columns: r, w, the replacement key k, kk and kk ∘ a, both before kk is divided by its length.
fn stage(quad: u32, r: vec4<f32>, k: vec4<f32>, k_k: vec4<f32>, k_a: vec4<f32>) {
    staged_r[quad] = vec4<f32>(0.0);
    staged_w[quad] = vec4<f32>(0.0);
    staged_k[quad] = vec4<f32>(0.0);
    staged_kk[quad] = vec4<f32>(0.0);
    staged_b[quad] = vec4<f32>(0.0);
    if quad * 4u < HEAD_SIZE {
        let c = quad * 4u;
        let w = vec4<f32>(rates[c].w, rates[c + 1u].w, rates[c + 2u].w, rates[c + 3u].w);
        let a = vec4<f32>(rates[c].a, rates[c + 1u].a, rates[c + 2u].a, rates[c + 3u].a);
        staged_r[quad] = r;
        staged_w[quad] = w;
        staged_k[quad] = k * (1.0 + (a - 1.0) * k_a);
        staged_kk[quad] = k * k_k;
        staged_b[quad] = k * k_k * a;
    }
}
