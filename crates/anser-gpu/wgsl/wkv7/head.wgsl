// All that happens to one head of one token between its projections and the output projection: the mix with the first
// layer's value, key control, the recurrence, norm, bonus and gate. For steps whose sequences have one token each; one
// workgroup per head and token. Follows step.wgsl, lanes/*.wgsl, wkv7/rows.wgsl and wkv7/value_*.wgsl.

override N_COLS: u32;        // C
override EPS: f32;
override VECTOR_STRIDE: u32; // elements between the vectors of a run

@group(0) @binding(0) var<storage, read> tokens: array<Token>;    // [T]
@group(0) @binding(1) var<storage, read> r: array<f32>;           // [T, C]
@group(0) @binding(2) var<storage, read> w: array<f32>;           // [T, C]
@group(0) @binding(3) var<storage, read> k: array<f32>;           // [T, C]
@group(0) @binding(4) var<storage, read> v: array<f32>;           // [T, C]
@group(0) @binding(5) var<storage, read> a: array<f32>;           // [T, C]
@group(0) @binding(6) var<storage, read> g: array<f32>;           // [T, C]
@group(0) @binding(7) var<storage, read> key: array<f32>;         // [2, C] k_k, k_a
@group(0) @binding(8) var<storage, read> gate: array<f32>;        // [3, C] r_k, norm weight, norm bias
@group(0) @binding(9) var<storage, read_write> state: array<f32>; // [slots, H, N, N]
@group(0) @binding(10) var<storage, read_write> out: array<f32>;  // [T, C]

const MIN_LENGTH: f32 = 1e-12;

// The head's operands by column, padded with zeros.
var<workgroup> staged_r: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_w: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_k: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_kk: array<vec4<f32>, ROW_QUADS>;
var<workgroup> staged_b: array<vec4<f32>, ROW_QUADS>; // kk ∘ a
override N_ROWS: u32 = WORKGROUP / N_LANES; // at least N
var<workgroup> staged_y: array<f32, N_ROWS>;

fn run(workgroup: vec3<u32>, index: u32) {
    let head = workgroup.x * HEAD_SIZE;
    let token = tokens[workgroup.y];
    let at = workgroup.y * N_COLS + head; // of the token's values
    let row = index / N_LANES;
    let lane = index % N_LANES;
    let is_row = row < HEAD_SIZE;
    let state_row = (token.slot * N_COLS + head + row) * HEAD_SIZE;

    load_row(state_row, lane, is_row && token.previous == PREVIOUS_STATE);
    if index < ROW_QUADS {
        stage(at, head, index);
    }
    workgroupBarrier();
    // Σ (k ∘ k_k)² and Σ r ∘ k ∘ r_k
    var squares = vec4<f32>(0.0);
    var bonus = vec4<f32>(0.0);
    for (var i = 0u; i < QUADS; i++) {
        let q = i * N_LANES + lane;
        squares += staged_kk[q] * staged_kk[q];
        bonus += staged_r[q] * staged_k[q] * vec4<f32>(
            gate_of(0u, head, q * 4u),
            gate_of(0u, head, q * 4u + 1u),
            gate_of(0u, head, q * 4u + 2u),
            gate_of(0u, head, q * 4u + 3u),
        );
    }
    let length = max(sqrt(lanes_sum(dot(squares, vec4<f32>(1.0)), index)), MIN_LENGTH);
    let r_k = lanes_sum(dot(bonus, vec4<f32>(1.0)), index);
    workgroupBarrier(); // all have read kk
    if index < ROW_QUADS {
        staged_kk[index] /= length;
        staged_b[index] *= staged_kk[index];
    }
    workgroupBarrier();

    var value = 0.0;
    if is_row {
        value = value_of(at + row);
    }
    let y = advance_row(0u, index, value);
    store_row(state_row, lane, is_row);
    if lane == 0u && is_row {
        staged_y[row] = y;
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
    if lane == 0u && is_row {
        let normed = (y - mean) * scale * gate_of(1u, head, row) + gate_of(2u, head, row);
        out[at + row] = (normed + r_k * value) * g[at + row];
    }
}

// Four columns of the head whose values start at `at`: r, w, the replacement key, the removal key before it is
// normalised, and a.
fn stage(at: u32, head: u32, quad: u32) {
    var quads: array<vec4<f32>, 5>;
    for (var j = 0u; j < 4u; j++) {
        let c = quad * 4u + j;
        if c < HEAD_SIZE {
            let rate = a[at + c];
            quads[0][j] = r[at + c];
            quads[1][j] = w[at + c];
            quads[2][j] = k[at + c] * (1.0 + (rate - 1.0) * key[VECTOR_STRIDE + head + c]);
            quads[3][j] = k[at + c] * key[head + c];
            quads[4][j] = rate;
        }
    }
    staged_r[quad] = quads[0];
    staged_w[quad] = quads[1];
    staged_k[quad] = quads[2];
    staged_kk[quad] = quads[3];
    staged_b[quad] = quads[4];
}

// Element `c` of the head in the `i`-th vector of the gate's.
fn gate_of(i: u32, head: u32, c: u32) -> f32 {
    return gate[i * VECTOR_STRIDE + head + min(c, HEAD_SIZE - 1u)];
}
