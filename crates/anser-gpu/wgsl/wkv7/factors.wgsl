// The recurrence of RWKV-7 in chunks of 16 tokens, first part: what a chunk does to any state S, as few small matrices.
//
// Within a chunk, with W_t = w_1 ∘ … ∘ w_t and b = kk ∘ a, the columns of the state are divided by W_t: Ŝ_t = S_t diag(1/W_t). Then
//     Ŝ_t = Ŝ_{t−1} − u_t b̂_tᵀ + v_t k̂_tᵀ,  u_t = Ŝ_{t−1} k̃k_t,  out_t = Ŝ_t r̃_t
// where b̂_t = b_t / W_t, k̂_t = k_t / W_t, k̃k_t = kk_t ∘ W_{t−1} and r̃_t = r_t ∘ W_t. With the products of all pairs of tokens
//     A[s,t] = b̂_s · k̃k_t and B[s,t] = k̂_s · k̃k_t for s < t,  C[s,t] = b̂_s · r̃_t and D[s,t] = k̂_s · r̃_t for s ≤ t
// the u_t, side by side in U [N, 16], and the outputs Y [N, 16] follow from U0 = S_0 k̃k and Y0 = S_0 r̃ by
//     U (I + A) = U0 + V B,  Y = Y0 − U C + V D.
// As A is strictly upper triangular, E = (I + A)⁻¹ and F = B E are found by substitution, and
//     U = U0 E + V F,  Y = Y0 − U0 (E C) + V (D − F C).
// The state after the chunk is (S_0 − U b̂ᵀ + V k̂ᵀ) diag(W_16). As w ≥ exp(−exp(−½)) = 0.545, 1/W stays below 16,400.
// This is the WY form of products of Householder-like matrices (Bischof and Van Loan 1987; Yang et al. 2024 for the delta rule).
//
// A workgroup of 64 threads makes every GRID_CHUNKS-th chunk of a head of a sequence. Follows step.wgsl.

@group(0) @binding(0) var<storage, read> sequences: array<Sequence>;          // [B]
@group(0) @binding(1) var<storage, read_write> factors: array<vec4<f32>>;     // [T, N_PARTS, C / 4]
@group(0) @binding(2) var<storage, read> r: array<vec4<f32>>;                 // [T, C / 4]
@group(0) @binding(3) var<storage, read> w: array<vec4<f32>>;                 // [T, C / 4]
@group(0) @binding(4) var<storage, read> k: array<vec4<f32>>;                 // [T, C / 4]
@group(0) @binding(5) var<storage, read> kk: array<vec4<f32>>;                // [T, C / 4]
@group(0) @binding(6) var<storage, read> a: array<vec4<f32>>;                 // [T, C / 4]

override N_COLS: u32; // C
override GRID_CHUNKS: u32;

const WORKGROUP: u32 = 64u;
const CHUNK: u32 = 16u;
const QUADS: u32 = 16u;    // vec4s of a head's 64 columns
const FLOAT_PITCH: u32 = 68u; // floats from a token to the next in workgroup memory, four more than it has, to spread them over the banks
const PAIR_PITCH: u32 = 20u; // floats from a column of 16 to the next

// Parts of a token's factors. The fifth has, for each head, column t of E, of F, of −E C and of D − F C; the last one W_16, of the
// chunk's first token only.
const PART_KK: u32 = 0u;
const PART_R: u32 = 1u;
const PART_B: u32 = 2u; // b̂ ∘ W_16
const PART_K: u32 = 3u; // k̂ ∘ W_16
const PART_PAIRS: u32 = 4u;
const PART_DECAY: u32 = 5u;
const N_PARTS: u32 = 6u;

// Operands of the chunk's tokens, first as they are, then divided and multiplied by the decay so far: b and k, kk and r. They are
// reached by columns and by vec4s.
var<workgroup> left: array<f32, 2176>;  // [2, CHUNK, FLOAT_PITCH]
var<workgroup> right: array<f32, 2176>; // [2, CHUNK, FLOAT_PITCH]
var<workgroup> decays: array<f32, 1088>; // [CHUNK, FLOAT_PITCH]
// Columns of A, B, C and D, then of E and F: [6, CHUNK, PAIR_PITCH].
var<workgroup> pairs: array<f32, 1920>;

const ROWS_OF_E: u32 = 4u;

fn pair_at(which: u32, t: u32, s: u32) -> u32 {
    return (which * CHUNK + t) * PAIR_PITCH + s;
}

fn factor_at(token: u32, part: u32, quad: u32) -> u32 {
    return (token * N_PARTS + part) * (N_COLS / 4u) + quad;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let sequence = sequences[workgroup.z];
    let head = workgroup.x * QUADS;
    let end = sequence.first + sequence.n_tokens;
    for (var first = sequence.first + workgroup.y * CHUNK; first < end; first += GRID_CHUNKS * CHUNK) {
        let n = min(CHUNK, end - first);
        workgroupBarrier(); // all threads are done with the chunk before
        for (var i = thread; i < CHUNK * QUADS; i += WORKGROUP) {
            load_operands(first, n, head, i / QUADS, i % QUADS);
        }
        workgroupBarrier();
        scale_column(thread);
        workgroupBarrier();
        for (var i = thread; i < CHUNK * QUADS; i += WORKGROUP) {
            write_operands(first, n, head, i / QUADS, i % QUADS);
        }
        multiply_pairs(thread);
        workgroupBarrier();
        if thread < 2u * CHUNK {
            substitute(thread);
        }
        workgroupBarrier();
        if thread >= 2u * CHUNK {
            combine(first, n, head, thread - 2u * CHUNK);
        }
    }
}

fn put_left(at: u32, v: vec4<f32>) {
    left[at] = v.x;
    left[at + 1u] = v.y;
    left[at + 2u] = v.z;
    left[at + 3u] = v.w;
}

fn put_right(at: u32, v: vec4<f32>) {
    right[at] = v.x;
    right[at + 1u] = v.y;
    right[at + 2u] = v.z;
    right[at + 3u] = v.w;
}

fn four_of_left(i: u32) -> vec4<f32> {
    return vec4<f32>(left[i], left[i + 1u], left[i + 2u], left[i + 3u]);
}

fn four_of_right(i: u32) -> vec4<f32> {
    return vec4<f32>(right[i], right[i + 1u], right[i + 2u], right[i + 3u]);
}

// Four columns of a token; those beyond the end change nothing.
fn load_operands(first: u32, n: u32, head: u32, t: u32, quad: u32) {
    let at = t * FLOAT_PITCH + 4u * quad;
    var decay = vec4<f32>(1.0);
    var b_t = vec4<f32>();
    var k_t = vec4<f32>();
    var kk_t = vec4<f32>();
    var r_t = vec4<f32>();
    if t < n {
        let i = (first + t) * (N_COLS / 4u) + head + quad;
        decay = w[i];
        kk_t = kk[i];
        b_t = kk_t * a[i];
        k_t = k[i];
        r_t = r[i];
    }
    decays[at] = decay.x;
    decays[at + 1u] = decay.y;
    decays[at + 2u] = decay.z;
    decays[at + 3u] = decay.w;
    put_left(at, b_t);
    put_left(CHUNK * FLOAT_PITCH + at, k_t);
    put_right(at, kk_t);
    put_right(CHUNK * FLOAT_PITCH + at, r_t);
}

// A column through all tokens.
fn scale_column(column: u32) {
    var decay = 1.0;
    for (var t = 0u; t < CHUNK; t++) {
        let at = t * FLOAT_PITCH + column;
        right[at] *= decay;
        decay *= decays[at];
        decays[at] = decay;
        let inverse = 1.0 / decay;
        left[at] *= inverse;
        left[CHUNK * FLOAT_PITCH + at] *= inverse;
        right[CHUNK * FLOAT_PITCH + at] *= decay;
    }
}

fn write_operands(first: u32, n: u32, head: u32, t: u32, quad: u32) {
    let last = (CHUNK - 1u) * FLOAT_PITCH + 4u * quad;
    let decay = vec4<f32>(decays[last], decays[last + 1u], decays[last + 2u], decays[last + 3u]);
    let at = t * FLOAT_PITCH + 4u * quad;
    if t < n {
        factors[factor_at(first + t, PART_KK, head + quad)] = four_of_right(at);
        factors[factor_at(first + t, PART_R, head + quad)] = four_of_right(CHUNK * FLOAT_PITCH + at);
        factors[factor_at(first + t, PART_B, head + quad)] = four_of_left(at) * decay;
        factors[factor_at(first + t, PART_K, head + quad)] = four_of_left(CHUNK * FLOAT_PITCH + at) * decay;
    }
    if t == 0u {
        factors[factor_at(first, PART_DECAY, head + quad)] = decay;
    }
}

// Each thread has a tile of 4 × 4 of one of the products.
fn multiply_pairs(thread: u32) {
    let which = thread / 16u;
    let s = thread / 4u % 4u * 4u;
    let t = thread % 4u * 4u;
    let x = (which % 2u * CHUNK + s) * FLOAT_PITCH;
    let y = (which / 2u * CHUNK + t) * FLOAT_PITCH;
    // Of tokens t to t + 3, with s to s + 3.
    var sums0 = vec4<f32>();
    var sums1 = vec4<f32>();
    var sums2 = vec4<f32>();
    var sums3 = vec4<f32>();
    for (var i = 0u; i < 4u * QUADS; i += 4u) {
        let x0 = four_of_left(x + i);
        let x1 = four_of_left(x + FLOAT_PITCH + i);
        let x2 = four_of_left(x + 2u * FLOAT_PITCH + i);
        let x3 = four_of_left(x + 3u * FLOAT_PITCH + i);
        let y0 = four_of_right(y + i);
        sums0 += vec4<f32>(dot(x0, y0), dot(x1, y0), dot(x2, y0), dot(x3, y0));
        let y1 = four_of_right(y + FLOAT_PITCH + i);
        sums1 += vec4<f32>(dot(x0, y1), dot(x1, y1), dot(x2, y1), dot(x3, y1));
        let y2 = four_of_right(y + 2u * FLOAT_PITCH + i);
        sums2 += vec4<f32>(dot(x0, y2), dot(x1, y2), dot(x2, y2), dot(x3, y2));
        let y3 = four_of_right(y + 3u * FLOAT_PITCH + i);
        sums3 += vec4<f32>(dot(x0, y3), dot(x1, y3), dot(x2, y3), dot(x3, y3));
    }
    // What a token sees: k̃k those before it, r̃ also itself.
    let s4 = vec4<u32>(s, s + 1u, s + 2u, s + 3u);
    let seen = t + which / 2u;
    put_pairs(pair_at(which, t, s), select(vec4<f32>(), sums0, s4 < vec4<u32>(seen)));
    put_pairs(pair_at(which, t + 1u, s), select(vec4<f32>(), sums1, s4 < vec4<u32>(seen + 1u)));
    put_pairs(pair_at(which, t + 2u, s), select(vec4<f32>(), sums2, s4 < vec4<u32>(seen + 2u)));
    put_pairs(pair_at(which, t + 3u, s), select(vec4<f32>(), sums3, s4 < vec4<u32>(seen + 3u)));
}

fn put_pairs(at: u32, v: vec4<f32>) {
    pairs[at] = v.x;
    pairs[at + 1u] = v.y;
    pairs[at + 2u] = v.z;
    pairs[at + 3u] = v.w;
}

fn four_pairs(i: u32) -> vec4<f32> {
    return vec4<f32>(pairs[i], pairs[i + 1u], pairs[i + 2u], pairs[i + 3u]);
}

// 16 elements of a row. (Not an array: drivers keep those in memory.)
struct Row {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

// A row times column t of A (0) or of C (2).
fn times_column(row: Row, which: u32, t: u32) -> f32 {
    let at = pair_at(which, t, 0u);
    let low = dot(row.a, four_pairs(at)) + dot(row.b, four_pairs(at + 4u));
    return low + (dot(row.c, four_pairs(at + 8u)) + dot(row.d, four_pairs(at + 12u)));
}

// A row of E or F: column t of E (I + A) = I or of F (I + A) = B gives its element t, since A is 0 from s = t on.
fn substitute(thread: u32) {
    let which = thread / CHUNK;
    let i = thread % CHUNK;
    var row = Row();
    row.a.x = right_side(which, i, 0u);
    row.a.y = right_side(which, i, 1u) - times_column(row, 0u, 1u);
    row.a.z = right_side(which, i, 2u) - times_column(row, 0u, 2u);
    row.a.w = right_side(which, i, 3u) - times_column(row, 0u, 3u);
    row.b.x = right_side(which, i, 4u) - times_column(row, 0u, 4u);
    row.b.y = right_side(which, i, 5u) - times_column(row, 0u, 5u);
    row.b.z = right_side(which, i, 6u) - times_column(row, 0u, 6u);
    row.b.w = right_side(which, i, 7u) - times_column(row, 0u, 7u);
    row.c.x = right_side(which, i, 8u) - times_column(row, 0u, 8u);
    row.c.y = right_side(which, i, 9u) - times_column(row, 0u, 9u);
    row.c.z = right_side(which, i, 10u) - times_column(row, 0u, 10u);
    row.c.w = right_side(which, i, 11u) - times_column(row, 0u, 11u);
    row.d.x = right_side(which, i, 12u) - times_column(row, 0u, 12u);
    row.d.y = right_side(which, i, 13u) - times_column(row, 0u, 13u);
    row.d.z = right_side(which, i, 14u) - times_column(row, 0u, 14u);
    row.d.w = right_side(which, i, 15u) - times_column(row, 0u, 15u);
    let at = pair_at(ROWS_OF_E + which, i, 0u);
    put_pairs(at, row.a);
    put_pairs(at + 4u, row.b);
    put_pairs(at + 8u, row.c);
    put_pairs(at + 12u, row.d);
}

fn right_side(which: u32, i: u32, t: u32) -> f32 {
    if which == 0u {
        return select(0.0, 1.0, i == t);
    }
    return pairs[pair_at(1u, t, i)];
}

// Column t of E, F, −E C and D − F C, four rows at a time.
fn combine(first: u32, n: u32, head: u32, thread: u32) {
    let t = thread % CHUNK;
    if t >= n {
        return;
    }
    // The first half of the threads has E and −E C, the second F and D − F C.
    let which = thread / CHUNK;
    for (var i = 0u; i < CHUNK; i += 4u) {
        let at = factor_at(first + t, PART_PAIRS, head + which * 4u + i / 4u);
        let r0 = pair_at(ROWS_OF_E + which, i, 0u);
        let r1 = r0 + PAIR_PITCH;
        let r2 = r1 + PAIR_PITCH;
        let r3 = r2 + PAIR_PITCH;
        factors[at] = vec4<f32>(pairs[r0 + t], pairs[r1 + t], pairs[r2 + t], pairs[r3 + t]);
        var products = vec4<f32>();
        for (var s = 0u; s < CHUNK; s += 4u) {
            let c = four_pairs(pair_at(2u, t, s));
            let e0 = dot(four_pairs(r0 + s), c);
            let e1 = dot(four_pairs(r1 + s), c);
            products += vec4<f32>(e0, e1, dot(four_pairs(r2 + s), c), dot(four_pairs(r3 + s), c));
        }
        let own = select(vec4<f32>(), four_pairs(pair_at(3u, t, i)), which == 1u);
        factors[at + 8u] = own - products;
    }
}
