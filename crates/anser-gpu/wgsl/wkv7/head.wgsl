// All that happens to one head of one token between its projections and the output projection: the mix with the first
// layer's value, key control, the recurrence, norm, bonus and gate. For steps whose sequences have one token each; one
// workgroup per head and token. N is a multiple of 4. Follows step.wgsl, lanes/*.wgsl, wkv7/state_vec4.wgsl,
// wkv7/rows.wgsl and wkv7/value_*.wgsl.
//
// Everything is fetched at the start, so that the device's memory is waited for once.

override N_COLS: u32;        // C
override EPS: f32;
override VECTOR_STRIDE: u32; // elements between the vectors of a run

@group(0) @binding(1) var<storage, read> tokens: array<Token>;   // [T]
@group(0) @binding(2) var<storage, read_write> out: array<f32>;  // [T, C]
@group(0) @binding(3) var<storage, read> r: array<vec4<f32>>;    // [T, C / 4]
@group(0) @binding(4) var<storage, read> w: array<vec4<f32>>;    // [T, C / 4]
@group(0) @binding(5) var<storage, read> k: array<vec4<f32>>;    // [T, C / 4]
@group(0) @binding(6) var<storage, read> a: array<vec4<f32>>;    // [T, C / 4]
@group(0) @binding(7) var<storage, read> v: array<f32>;          // [T, C]
@group(0) @binding(8) var<storage, read> g: array<f32>;          // [T, C]
@group(0) @binding(9) var<storage, read> key: array<vec4<f32>>;  // [2, C / 4] k_k, k_a
@group(0) @binding(10) var<storage, read> gate: array<f32>;      // [3, C] r_k, norm weight, norm bias

const MIN_LENGTH: f32 = 1e-12;

// The head's operands by column, padded with zeros.
var<workgroup> staged_r: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_w: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_k: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_kk: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_b: array<vec4<f32>, ROW_QUADS>; // kk ∘ a
override N_ROWS: u32 = WORKGROUP / N_LANES; // at least N
var<workgroup> staged_r_k: array<f32, N_ROWS>;
var<workgroup> staged_v: array<f32, N_ROWS>;
var<workgroup> staged_y: array<f32, N_ROWS>;

fn run(workgroup: vec3<u32>, index: u32) {
    let head = workgroup.x * HEAD_SIZE;
    let token = tokens[workgroup.y];
    let at = workgroup.y * N_COLS + head; // of the token's values
    let row = index / N_LANES;
    let lane = index % N_LANES;
    let state_row = token.slot * N_COLS + head + row;

    clear_row();
    if row < HEAD_SIZE && token.previous == PREVIOUS_STATE {
        load_row(state_row, lane);
    }
    if index < ROW_QUADS {
        stage(at / 4u, head / 4u, index);
    }
    // Invocation `index` has column `index`, beyond the last one that one again.
    let column = min(index, HEAD_SIZE - 1u);
    let value = value_of(at + column);
    let norm_weight = gate[VECTOR_STRIDE + head + column];
    let norm_bias = gate[2u * VECTOR_STRIDE + head + column];
    let open = g[at + column];
    if index < HEAD_SIZE {
        staged_v[index] = value;
        staged_r_k[index] = gate[head + column];
    }
    workgroupBarrier();

    // Σ (k ∘ k_k)² and Σ r ∘ k ∘ r_k
    var squares = vec4<f32>(0.0);
    var bonus = 0.0;
    for (var i = 0u; i < QUADS; i++) {
        let q = i * N_LANES + lane;
        squares += staged_kk[q] * staged_kk[q];
        let r_k = staged_r[q] * staged_k[q];
        for (var j = 0u; j < 4u; j++) {
            bonus += r_k[j] * staged_r_k[min(q * 4u + j, HEAD_SIZE - 1u)];
        }
    }
    let length = max(sqrt(lanes_sum(sum4(squares), index)), MIN_LENGTH);
    bonus = lanes_sum(bonus, index);
    workgroupBarrier(); // all have read kk
    if index < ROW_QUADS {
        staged_kk[index] /= length;
        staged_b[index] *= staged_kk[index];
    }
    workgroupBarrier();

    let y = advance_row(0u, index, staged_v[min(row, HEAD_SIZE - 1u)]);
    if row < HEAD_SIZE {
        store_row(state_row, lane);
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
    if index < HEAD_SIZE {
        let normed = (staged_y[index] - mean) * scale * norm_weight + norm_bias;
        out[at + index] = (normed + bonus * value) * open;
    }
}

// Stages four columns: r, w, the replacement key, the removal key before it is normalised, and a.
fn stage(at4: u32, head4: u32, quad: u32) {
    staged_r[quad] = vec4<f32>(0.0);
    staged_w[quad] = vec4<f32>(0.0);
    staged_k[quad] = vec4<f32>(0.0);
    staged_kk[quad] = vec4<f32>(0.0);
    staged_b[quad] = vec4<f32>(0.0);
    if quad * 4u < HEAD_SIZE {
        let i = at4 + quad;
        let k_k = key[head4 + quad];
        let k_a = key[VECTOR_STRIDE / 4u + head4 + quad];
        staged_r[quad] = r[i];
        staged_w[quad] = w[i];
        staged_k[quad] = k[i] * (1.0 + (a[i] - 1.0) * k_a);
        staged_kk[quad] = k[i] * k_k;
        staged_b[quad] = a[i];
    }
}
