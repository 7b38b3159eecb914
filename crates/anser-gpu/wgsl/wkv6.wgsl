// The recurrence of RWKV-5 and RWKV-6. Per head and token, with the head's state S [N, N] (value row, key column):
//     out = (S + v (u ∘ k)ᵀ)·r,  S ← S·diag(w) + v kᵀ
// Bound by the time from one token to the next. A workgroup takes N_ROWS rows of a head through all tokens of a sequence; N_LANES
// threads share a row and keep it in registers, with the next token's operands, which are on their way meanwhile. N is a multiple
// of 4. Follows step.wgsl, lanes/*.wgsl and head/state_vec4.wgsl.

override N_COLS: u32;          // C
override HEAD_SIZE: u32;       // N
override DECAY_OF_TOKEN: bool; // whether w is [T, C] and not [C]

override N_ROWS: u32 = WORKGROUP / N_LANES;

@group(0) @binding(1) var<storage, read> sequences: array<Sequence>; // [B]
@group(0) @binding(2) var<storage, read_write> out: array<f32>;      // [T, C]
@group(0) @binding(3) var<storage, read> r: array<vec4<f32>>;        // [T, C / 4]
@group(0) @binding(4) var<storage, read> k: array<vec4<f32>>;        // [T, C / 4]
@group(0) @binding(5) var<storage, read> v: array<f32>;              // [T, C]
@group(0) @binding(6) var<storage, read> w: array<vec4<f32>>;        // [T, C / 4] or [C / 4]
@group(0) @binding(7) var<storage, read> u: array<vec4<f32>>;        // [C / 4]

// The columns of one thread, in a row of S or of a token. (Not an array: drivers keep those in memory.)
struct Quads {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

// Operands of a token.
struct Operands {
    r: Quads,
    k: Quads,
    w: Quads,
    v: f32,
}

fn run(workgroup: vec3<u32>, index: u32) {
    let sequence = sequences[workgroup.z];
    let head = workgroup.x * HEAD_SIZE;
    let row = workgroup.y * N_ROWS + index / N_LANES;
    let lane = index % N_LANES;
    let is_row = row < HEAD_SIZE;
    let state_row = sequence.slot * N_COLS + head + row;
    let end = sequence.first + sequence.n_tokens;

    var s = Quads();
    if is_row && sequence.is_fresh == 0u {
        s.a = load_quad(state_row, lane);
        s.b = load_quad(state_row, lane + N_LANES);
        s.c = load_quad(state_row, lane + 2u * N_LANES);
        s.d = load_quad(state_row, lane + 3u * N_LANES);
    }
    let bonus = Quads(u[at(head, lane, 0u)], u[at(head, lane, 1u)], u[at(head, lane, 2u)], u[at(head, lane, 3u)]);
    var next = fetch(sequence.first, head, row, lane);
    for (var t = sequence.first; t < end; t++) {
        let now = next;
        next = fetch(min(t + 1u, end - 1u), head, row, lane);
        let kv = Quads(now.v * now.k.a, now.v * now.k.b, now.v * now.k.c, now.v * now.k.d);
        let y = (s.a + bonus.a * kv.a) * now.r.a + (s.b + bonus.b * kv.b) * now.r.b
            + ((s.c + bonus.c * kv.c) * now.r.c + (s.d + bonus.d * kv.d) * now.r.d);
        s.a = s.a * now.w.a + kv.a;
        s.b = s.b * now.w.b + kv.b;
        s.c = s.c * now.w.c + kv.c;
        s.d = s.d * now.w.d + kv.d;
        let sum = lanes_sum((y.x + y.y) + (y.z + y.w), index);
        if lane == 0u && is_row {
            out[t * N_COLS + head + row] = sum;
        }
    }
    if is_row {
        let to_row = state_row + (sequence.to_slot - sequence.slot) * N_COLS;
        store_quad(to_row, lane, s.a);
        store_quad(to_row, lane + N_LANES, s.b);
        store_quad(to_row, lane + 2u * N_LANES, s.c);
        store_quad(to_row, lane + 3u * N_LANES, s.d);
    }
}

fn fetch(t: u32, head: u32, row: u32, lane: u32) -> Operands {
    let token = t * N_COLS + head;
    return Operands(
        Quads(
            within(r[at(token, lane, 0u)], lane, 0u),
            within(r[at(token, lane, 1u)], lane, 1u),
            within(r[at(token, lane, 2u)], lane, 2u),
            within(r[at(token, lane, 3u)], lane, 3u),
        ),
        Quads(
            within(k[at(token, lane, 0u)], lane, 0u),
            within(k[at(token, lane, 1u)], lane, 1u),
            within(k[at(token, lane, 2u)], lane, 2u),
            within(k[at(token, lane, 3u)], lane, 3u),
        ),
        decay(select(head, token, DECAY_OF_TOKEN), lane),
        v[token + min(row, HEAD_SIZE - 1u)],
    );
}

fn decay(first: u32, lane: u32) -> Quads {
    return Quads(w[at(first, lane, 0u)], w[at(first, lane, 1u)], w[at(first, lane, 2u)], w[at(first, lane, 3u)]);
}

// The vec4 that a thread reads as its `i`-th, of a head whose first element is `first`; beyond the head its last one.
fn at(first: u32, lane: u32, i: u32) -> u32 {
    return first / 4u + min(lane + i * N_LANES, HEAD_SIZE / 4u - 1u);
}

// Zeros beyond the head: there S stays zero and adds nothing.
fn within(x: vec4<f32>, lane: u32, i: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), x, 4u * (lane + i * N_LANES) < HEAD_SIZE);
}
