// All that happens to one head of one token between its projections and the output projection: the mix with the first
// layer's value, key control, the recurrence, norm, bonus and gate. For steps whose sequences have one token each; one
// workgroup per head and token. N is a multiple of 4. Follows step.wgsl, place.wgsl, place.wgsl, bytes_out.wgsl, lanes/*.wgsl,
// wkv7/state_vec4.wgsl, wkv7/rows.wgsl and weight/piece.wgsl (N_COLS = C); wkv7/head_values.wgsl or wkv7/head_low_rank.wgsl, which follows, has the
// operands.
//
// Everything is fetched at the start, so that the device's memory is waited for once.

override EPS: f32;
override VECTOR_STRIDE: u32; // elements between the vectors of a run
override IS_MIXED: bool;     // whether values are mixed with the first layer's

@group(0) @binding(1) var<storage, read> tokens: array<Token>;   // [T]
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
@group(0) @binding(3) var<storage, read> key: array<vec4<f32>>;  // [2, C / 4] k_k, k_a
@group(0) @binding(4) var<storage, read> gate: array<f32>;       // [3, C] r_k, norm weight, norm bias

const MIN_LENGTH: f32 = 1e-12;

override N_ROWS: u32 = WORKGROUP / N_LANES; // at least N

// The head's operands by column, padded with zeros.
var<workgroup> staged_r: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_w: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_k: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_kk: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_b: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_r_k: array<f32, N_ROWS>;
var<workgroup> staged_v: array<f32, N_ROWS>;
var<workgroup> staged_y: array<f32, N_ROWS>;

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

    // Every group of lanes sums all rows.
    var sum = 0.0;
    for (var i = lane; i < HEAD_SIZE; i += N_LANES) {
        sum += staged_y[i];
    }
    let mean = lanes_sum(sum, index) / f32(HEAD_SIZE);
    var variance = 0.0;
    for (var i = lane; i < HEAD_SIZE; i += N_LANES) {
        let d = staged_y[i] - mean;
        variance += d * d;
    }
    let scale = inverseSqrt(lanes_sum(variance, index) / f32(HEAD_SIZE) + EPS);
    let normed = (staged_y[column] - mean) * scale * norm_weight + norm_bias;
    let result = (normed + bonus * value) * rates[column].g;
    if index < HEAD_SIZE && OUT.floats != NOTHING {
        out[OUT.floats + t * N_COLS + head + index] = bitcast<u32>(result);
    }
    if OUT.bytes != NOTHING || OUT.halves != NOTHING {
        workgroupBarrier(); // all have read y
        if index < HEAD_SIZE {
            staged_y[index] = result;
        }
        workgroupBarrier();
        if OUT.bytes != NOTHING && index < HEAD_SIZE / 16u {
            store_bytes((t * N_COLS + head) / 16u + index, 16u * index);
        }
        if OUT.halves != NOTHING && index < HEAD_SIZE / 2u {
            let to = OUT.halves + (t * N_COLS + head) / 2u + index;
            out[to] = to_halves(staged_y[2u * index], staged_y[2u * index + 1u]);
        }
    }
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

fn y4(at: u32) -> vec4<f32> {
    return vec4<f32>(staged_y[at], staged_y[at + 1u], staged_y[at + 2u], staged_y[at + 3u]);
}

// A piece of the result, from element `at` of the head.
fn store_bytes(piece: u32, at: u32) {
    let bytes = to_bytes(y4(at), y4(at + 4u), y4(at + 8u), y4(at + 12u));
    write_bytes(OUT.bytes, OUT.scales, piece, bytes);
}
