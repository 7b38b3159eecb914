// The operands of a head, of which the rates are computed here: the expansions of the low-rank pairs, the head's rows of
// four tall matrices. Follows matmul/activation.wgsl, weight/piece.wgsl and weight/float_kinds.wgsl, and comes before
// matmul/floats.wgsl and head/values_together.wgsl.

@group(0) @binding(5) var<storage, read> weights: array<vec4<u32>>; // the layer's
@group(0) @binding(6) var<storage, read> values: array<vec4<f32>>;  // r, k, v and the reductions of the low-rank pairs
@group(0) @binding(7) var<storage, read> bias: array<f32>;          // the layer's vectors
@group(0) @binding(8) var<storage, read> v_first: array<f32>;       // [T, C], if values are mixed

// The second matrix of a low-rank pair, [C, RANK], and its input.
struct Pair {
    weights: u32, // first vec4
    kind: u32,    // see weight/float_kinds.wgsl
    input: u32,   // first vec4 of values, [T, RANK / 4]
    bias: u32,    // first number of the vector [C], or NOTHING
    rank: u32,    // RANK, a multiple of 4
    first: u32,   // number of its first piece of 16 columns among those of all pairs
}

// The pairs of w, a, g and v are the kernel's argument PAIRS, a constant: a thread asks for its weights without waiting for a
// table. A pair that there is not begins after all others.
const W: u32 = 0u;
const A: u32 = 1u;
const G: u32 = 2u;
const V: u32 = 3u;

override N_PAIR_PIECES: u32; // pieces of all pairs
override N_ROUNDS: u32 = (N_PAIR_PIECES + N_LANES - 1u) / N_LANES;

fn load_first_value(t: u32, column: u32) -> f32 {
    if IS_MIXED {
        return v_first[t * N_COLS + column];
    }
    return 0.0;
}

// The bits of the first pieces of a thread, 16 bits a number.
var<private> fetched: array<array<vec4<u32>, 2>, MAX_FETCHED>;
var<private> biases: vec4<f32>;

const MAX_FETCHED: u32 = 3u;
override N_FETCHED: u32 = min(N_ROUNDS, MAX_FETCHED);

// Asks for weights, so that they are on their way while everything else is asked for. The lanes of a row share the pieces
// of all its pairs, so that most of them wait for memory at the same time.
fn fetch_rates(head: u32, index: u32) {
    let row = head + min(index / N_LANES, HEAD_SIZE - 1u);
    for (var i = 0u; i < N_FETCHED; i++) {
        let p = min(i * N_LANES + index % N_LANES, N_PAIR_PIECES - 1u);
        let pair = pair_of(pair_number(p));
        let at = piece_start(pair, row, p - pair.first);
        fetched[i] = array<vec4<u32>, 2>(weights[at], weights[at + 1u]);
    }
    biases = vec4<f32>(
        load_bias(PAIRS[W], row),
        load_bias(PAIRS[A], row),
        load_bias(PAIRS[G], row),
        load_bias(PAIRS[V], row),
    );
}

const PITCH: u32 = 5u; // vec4s from one staged piece to the next: spreads them over the memory's banks

override N_INPUTS: u32 = PITCH * N_PAIR_PIECES;

var<workgroup> inputs: array<vec4<f32>, N_INPUTS>; // of all pairs [N_PAIR_PIECES, PITCH]

fn stage_rates(t: u32, head: u32, index: u32) {
    // It is there before the weights are.
    for (var i = index; i < 4u * N_PAIR_PIECES; i += WORKGROUP) {
        let p = i / 4u;
        let pair = pair_of(pair_number(p));
        inputs[PITCH * p + i % 4u] = load_input(pair, t, i - 4u * pair.first);
    }
    workgroupBarrier();
    let row = head + min(index / N_LANES, HEAD_SIZE - 1u);
    let lane = index % N_LANES;
    var sums = vec4<f32>(0.0);
    for (var i = 0u; i < N_FETCHED; i++) {
        let p = i * N_LANES + lane;
        if p < N_PAIR_PIECES {
            sums += piece_product(row, p, fetched[i]);
        }
    }
    for (var i = N_FETCHED; i < N_ROUNDS; i++) {
        let p = i * N_LANES + lane;
        if p < N_PAIR_PIECES {
            let pair = pair_of(pair_number(p));
            let at = piece_start(pair, row, p - pair.first);
            sums += piece_product(row, p, array<vec4<u32>, 2>(weights[at], weights[at + 1u]));
        }
    }
    sums.x = lanes_sum(sums.x, index);
    sums.y = lanes_sum(sums.y, index);
    sums.z = lanes_sum(sums.z, index);
    if IS_MIXED {
        sums.w = lanes_sum(sums.w, index);
    }
    if lane == 0u {
        let z = sums + biases;
        rates[index / N_LANES] = Rates(decay(z.x), sigmoid(z.y), z.z, sigmoid(z.w));
    }
}

fn load_bias(pair: Pair, row: u32) -> f32 {
    if pair.bias != NOTHING {
        return bias[pair.bias + row];
    }
    return 0.0;
}

fn pair_of(j: u32) -> Pair {
    let low = select_pair(PAIRS[W], PAIRS[A], j == 1u);
    let high = select_pair(PAIRS[G], PAIRS[V], j == 3u);
    return select_pair(low, high, j >= 2u);
}

fn select_pair(a: Pair, b: Pair, takes_b: bool) -> Pair {
    return Pair(
        select(a.weights, b.weights, takes_b),
        select(a.kind, b.kind, takes_b),
        select(a.input, b.input, takes_b),
        select(a.bias, b.bias, takes_b),
        select(a.rank, b.rank, takes_b),
        select(a.first, b.first, takes_b),
    );
}

// The pair of piece `p` of all pairs.
fn pair_number(p: u32) -> u32 {
    var j = 3u;
    if p < PAIRS[A].first {
        j = 0u;
    } else if p < PAIRS[G].first {
        j = 1u;
    } else if p < PAIRS[V].first {
        j = 2u;
    }
    return j;
}

// First vec4 of a piece of a pair's row.
fn piece_start(pair: Pair, row: u32, piece: u32) -> u32 {
    let n_pieces = (pair.rank + 15u) / 16u;
    return pair.weights + select(2u, 4u, pair.kind == F32) * (row * n_pieces + piece);
}

// What piece `p` of all pairs, which begins with `bits`, adds to the products of a row, in the place of its pair.
fn piece_product(row: u32, p: u32, bits: array<vec4<u32>, 2>) -> vec4<f32> {
    let j = pair_number(p);
    let pair = pair_of(j);
    let piece = p - pair.first;
    var w: Piece;
    if pair.kind == F32 {
        w = f32_piece(piece_start(pair, row, piece));
    } else {
        w = halves_piece(pair.kind, bits[0], bits[1]);
    }
    return select(vec4<f32>(0.0), vec4<f32>(dot_input(w, p)), vec4<u32>(0u, 1u, 2u, 3u) == vec4<u32>(j));
}

fn dot_input(w: Piece, p: u32) -> f32 {
    let i = PITCH * p;
    return (dot(w.a, inputs[i]) + dot(w.b, inputs[i + 1u])) + (dot(w.c, inputs[i + 2u]) + dot(w.d, inputs[i + 3u]));
}

// Four columns of a pair's input; zeros beyond the last column.
fn load_input(pair: Pair, t: u32, column4: u32) -> vec4<f32> {
    if 4u * column4 < pair.rank {
        return values[pair.input + t * (pair.rank / 4u) + column4];
    }
    return vec4<f32>(0.0);
}
