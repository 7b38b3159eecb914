// The recurrence of RWKV-7 in chunks of 16 tokens, second part: the state, chunk by chunk, by the factors that wkv7/factors.wgsl made
// and explains. A workgroup of 128 threads takes 16 rows of one head of one sequence through all its chunks; the next chunk's
// factors are fetched while one is computed. Follows step.wgsl and head/state_vec4.wgsl.

@group(0) @binding(1) var<storage, read> sequences: array<Sequence>;    // [B]
@group(0) @binding(2) var<storage, read_write> out: array<f32>;         // [T, C]
@group(0) @binding(3) var<storage, read> factors: array<vec4<f32>>;     // [T, N_PARTS, C / 4], see wkv7/factors.wgsl
@group(0) @binding(4) var<storage, read> v: array<vec4<f32>>;           // [T, C / 4]

override N_COLS: u32;    // C
override HEAD_SIZE: u32; // N, 64

const CHUNK: u32 = 16u;
const ROWS: u32 = 16u;   // of a workgroup
const QUADS: u32 = 16u;  // vec4s of N columns
const PITCH: u32 = 17u;  // vec4s from a row to the next in workgroup memory, where threads read one column of several rows
const SUMS_PITCH: u32 = 36u;
const REMOVED_PITCH: u32 = 20u;
const N_PARTS: u32 = 6u;
const PART_PAIRS: u32 = 4u;
const PART_DECAY: u32 = 5u;

var<workgroup> state_rows: array<vec4<f32>, 272>; // S, [ROWS, PITCH]
var<workgroup> seen: array<vec4<f32>, 544>;       // k̃k and r̃, [2, CHUNK, PITCH]
var<workgroup> added: array<vec4<f32>, 512>;      // b̂ ∘ W and k̂ ∘ W, [2, CHUNK, QUADS]
var<workgroup> pairs: array<vec4<f32>, 272>;      // columns of E, F, −E C, D − F C: [CHUNK, PITCH]
var<workgroup> decay: array<vec4<f32>, 16>;       // W
var<workgroup> sums: array<f32, 576>;             // U0, then V: [ROWS, SUMS_PITCH], of which 32 are used
var<workgroup> removed: array<f32, 320>;          // U, [ROWS, REMOVED_PITCH], of which 16 are used

// What a thread fetches of a chunk: two vec4s of each part, one of V and one of W. (No arrays: drivers keep those in memory.)
struct Fetched {
    kk_0: vec4<f32>,
    kk_1: vec4<f32>,
    r_0: vec4<f32>,
    r_1: vec4<f32>,
    b_0: vec4<f32>,
    b_1: vec4<f32>,
    k_0: vec4<f32>,
    k_1: vec4<f32>,
    pairs_0: vec4<f32>,
    pairs_1: vec4<f32>,
    v: vec4<f32>,
    decay: vec4<f32>,
}

// Vec4 `quad` of a part of a token; zeros beyond the end.
fn fetch_part(token: u32, end: u32, part: u32, quad: u32) -> vec4<f32> {
    if token >= end {
        return vec4<f32>();
    }
    return factors[(token * N_PARTS + part) * (N_COLS / 4u) + quad];
}

fn fetch(first: u32, end: u32, head: u32, rows: u32, thread: u32) -> Fetched {
    var fetched = Fetched();
    let quad = head / 4u + thread % QUADS;
    let t0 = first + thread / QUADS;
    let t1 = t0 + CHUNK / 2u;
    fetched.kk_0 = fetch_part(t0, end, 0u, quad);
    fetched.kk_1 = fetch_part(t1, end, 0u, quad);
    fetched.r_0 = fetch_part(t0, end, 1u, quad);
    fetched.r_1 = fetch_part(t1, end, 1u, quad);
    fetched.b_0 = fetch_part(t0, end, 2u, quad);
    fetched.b_1 = fetch_part(t1, end, 2u, quad);
    fetched.k_0 = fetch_part(t0, end, 3u, quad);
    fetched.k_1 = fetch_part(t1, end, 3u, quad);
    fetched.pairs_0 = fetch_part(t0, end, PART_PAIRS, quad);
    fetched.pairs_1 = fetch_part(t1, end, PART_PAIRS, quad);
    // Four threads have the values of one token for the workgroup's rows.
    let of_values = first + thread / 4u;
    if thread < 64u && of_values < end {
        fetched.v = v[of_values * (N_COLS / 4u) + (head + rows) / 4u + thread % 4u];
    }
    if thread < QUADS {
        fetched.decay = fetch_part(first, end, PART_DECAY, quad);
    }
    return fetched;
}

fn stage(fetched: Fetched, thread: u32) {
    let t0 = thread / QUADS;
    let t1 = t0 + CHUNK / 2u;
    let quad = thread % QUADS;
    seen[t0 * PITCH + quad] = fetched.kk_0;
    seen[t1 * PITCH + quad] = fetched.kk_1;
    seen[(CHUNK + t0) * PITCH + quad] = fetched.r_0;
    seen[(CHUNK + t1) * PITCH + quad] = fetched.r_1;
    added[t0 * QUADS + quad] = fetched.b_0;
    added[t1 * QUADS + quad] = fetched.b_1;
    added[(CHUNK + t0) * QUADS + quad] = fetched.k_0;
    added[(CHUNK + t1) * QUADS + quad] = fetched.k_1;
    pairs[t0 * PITCH + quad] = fetched.pairs_0;
    pairs[t1 * PITCH + quad] = fetched.pairs_1;
    if thread < 64u {
        let t = thread / 4u;
        let at = thread % 4u * 4u * SUMS_PITCH + CHUNK + t;
        sums[at] = fetched.v.x;
        sums[at + SUMS_PITCH] = fetched.v.y;
        sums[at + 2u * SUMS_PITCH] = fetched.v.z;
        sums[at + 3u * SUMS_PITCH] = fetched.v.w;
    }
    if thread < QUADS {
        decay[thread] = fetched.decay;
    }
}

fn four_sums(i: u32) -> vec4<f32> {
    return vec4<f32>(sums[i], sums[i + 1u], sums[i + 2u], sums[i + 3u]);
}

fn four_removed(i: u32) -> vec4<f32> {
    return vec4<f32>(removed[i], removed[i + 1u], removed[i + 2u], removed[i + 3u]);
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let sequence = sequences[workgroup.z];
    let head = workgroup.x * HEAD_SIZE;
    let rows = workgroup.y * ROWS;
    let end = sequence.first + sequence.n_tokens;
    // In the state each thread has two rows and four columns, in products two rows and two tokens.
    let row = thread % 8u * 2u;
    let quad = thread / 8u;
    let state_row = sequence.slot * N_COLS + head + rows + row;

    var s0 = vec4<f32>();
    var s1 = vec4<f32>();
    if sequence.is_fresh == 0u {
        s0 = load_quad(state_row, quad);
        s1 = load_quad(state_row + 1u, quad);
    }
    var fetched = fetch(sequence.first, end, head, rows, thread);
    for (var first = sequence.first; first < end; first += CHUNK) {
        state_rows[row * PITCH + quad] = s0;
        state_rows[(row + 1u) * PITCH + quad] = s1;
        stage(fetched, thread);
        workgroupBarrier();
        fetched = fetch(first + CHUNK, end, head, rows, thread);

        // U0, by the first half of the threads, and Y0: tokens t and t + 1 of row and row + 1.
        let t = quad % 8u * 2u;
        let is_out = quad >= 8u;
        let x = (select(0u, CHUNK, is_out) + t) * PITCH;
        var products = vec4<f32>(); // of the first row with both tokens, then of the second
        for (var i = 0u; i < QUADS; i++) {
            let a = state_rows[row * PITCH + i];
            let b = state_rows[(row + 1u) * PITCH + i];
            let c = seen[x + i];
            let d = seen[x + PITCH + i];
            products += vec4<f32>(dot(a, c), dot(a, d), dot(b, c), dot(b, d));
        }
        if !is_out {
            sums[row * SUMS_PITCH + t] = products.x;
            sums[row * SUMS_PITCH + t + 1u] = products.y;
            sums[(row + 1u) * SUMS_PITCH + t] = products.z;
            sums[(row + 1u) * SUMS_PITCH + t + 1u] = products.w;
            products = vec4<f32>();
        }
        workgroupBarrier();

        // U = U0 E + V F and Y = Y0 + U0 (−E C) + V (D − F C).
        let p = t * PITCH + select(0u, 8u, is_out);
        for (var i = 0u; i < 8u; i++) {
            let a = four_sums(row * SUMS_PITCH + 4u * i);
            let b = four_sums((row + 1u) * SUMS_PITCH + 4u * i);
            let c = pairs[p + i];
            let d = pairs[p + PITCH + i];
            products += vec4<f32>(dot(a, c), dot(a, d), dot(b, c), dot(b, d));
        }
        if is_out {
            let to = (first + t) * N_COLS + head + rows + row;
            if first + t < end {
                out[to] = products.x;
                out[to + 1u] = products.z;
            }
            if first + t + 1u < end {
                out[to + N_COLS] = products.y;
                out[to + N_COLS + 1u] = products.w;
            }
        } else {
            removed[row * REMOVED_PITCH + t] = products.x;
            removed[row * REMOVED_PITCH + t + 1u] = products.y;
            removed[(row + 1u) * REMOVED_PITCH + t] = products.z;
            removed[(row + 1u) * REMOVED_PITCH + t + 1u] = products.w;
        }
        workgroupBarrier();

        // S ← S diag(W) − U b̂ᵀ + V k̂ᵀ.
        s0 *= decay[quad];
        s1 *= decay[quad];
        for (var i = 0u; i < CHUNK / 4u; i++) {
            let u0 = four_removed(row * REMOVED_PITCH + 4u * i);
            let u1 = four_removed((row + 1u) * REMOVED_PITCH + 4u * i);
            let v0 = four_sums(row * SUMS_PITCH + CHUNK + 4u * i);
            let v1 = four_sums((row + 1u) * SUMS_PITCH + CHUNK + 4u * i);
            let b0 = added[4u * i * QUADS + quad];
            let b1 = added[(4u * i + 1u) * QUADS + quad];
            let b2 = added[(4u * i + 2u) * QUADS + quad];
            let b3 = added[(4u * i + 3u) * QUADS + quad];
            s0 -= u0.x * b0 + u0.y * b1 + (u0.z * b2 + u0.w * b3);
            s1 -= u1.x * b0 + u1.y * b1 + (u1.z * b2 + u1.w * b3);
            let k0 = added[(CHUNK + 4u * i) * QUADS + quad];
            let k1 = added[(CHUNK + 4u * i + 1u) * QUADS + quad];
            let k2 = added[(CHUNK + 4u * i + 2u) * QUADS + quad];
            let k3 = added[(CHUNK + 4u * i + 3u) * QUADS + quad];
            s0 += v0.x * k0 + v0.y * k1 + (v0.z * k2 + v0.w * k3);
            s1 += v1.x * k0 + v1.y * k1 + (v1.z * k2 + v1.w * k3);
        }
        workgroupBarrier(); // all threads are done with the chunk
    }
    let to_row = state_row + (sequence.to_slot - sequence.slot) * N_COLS;
    store_quad(to_row, quad, s0);
    store_quad(to_row + 1u, quad, s1);
}
