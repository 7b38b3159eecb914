// The operands of a head, of which the rates are computed here: the expansions of the low-rank pairs, the head's rows of
// four tall matrices. Follows matmul/activation.wgsl, weight/piece.wgsl, and comes before matmul/floats.wgsl.

@group(0) @binding(6) var<storage, read> weights: array<vec4<u32>>; // the layer's
@group(0) @binding(7) var<storage, read> values: array<vec4<f32>>;  // r, k, v and the reductions of the low-rank pairs
@group(0) @binding(8) var<storage, read> bias: array<f32>;          // the layer's vectors
@group(0) @binding(9) var<storage, read> v_first: array<f32>;       // [T, C], if values are mixed
@group(0) @binding(10) var<uniform> operands: Operands;

struct Operands {
    r: u32, // first vec4 of values, [T, C / 4] each
    k: u32,
    v: u32,
    padding: u32,
    pairs: array<Pair, 4>, // of w, a, g, v
}

// The second matrix of a low-rank pair, [C, RANK], and its input.
struct Pair {
    weights: u32,  // first vec4
    kind: u32,     // one of the constants below
    input: u32,    // first vec4 of values, [T, RANK / 4]
    bias: u32,     // first number of the vector [C], or NOTHING
    rank: u32,     // RANK, a multiple of 4
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
}

const F16: u32 = 1u;
const BF16: u32 = 2u;
const F32: u32 = 3u;

fn load_receptance(t: u32, column4: u32) -> vec4<f32> {
    return values[operands.r + t * (N_COLS / 4u) + column4];
}

fn load_key(t: u32, column4: u32) -> vec4<f32> {
    return values[operands.k + t * (N_COLS / 4u) + column4];
}

fn load_value(t: u32, column: u32) -> f32 {
    return values[operands.v + (t * N_COLS + column) / 4u][column % 4u];
}

fn load_first_value(t: u32, column: u32) -> f32 {
    if IS_MIXED {
        return v_first[t * N_COLS + column];
    }
    return 0.0;
}

fn stage_rates(t: u32, head: u32, index: u32) {
    let row = head + min(index / N_LANES, HEAD_SIZE - 1u);
    let lane = index % N_LANES;
    let w = expand(operands.pairs[0], t, row, lane);
    let a = expand(operands.pairs[1], t, row, lane);
    let g = expand(operands.pairs[2], t, row, lane);
    var v = 0.0;
    if IS_MIXED {
        v = expand(operands.pairs[3], t, row, lane);
    }
    let sums = Rates(lanes_sum(w, index), lanes_sum(a, index), lanes_sum(g, index), lanes_sum(v, index));
    if lane == 0u {
        rates[index / N_LANES] = Rates(
            decay(sums.w + load_bias(operands.pairs[0], row)),
            sigmoid(sums.a + load_bias(operands.pairs[1], row)),
            sums.g + load_bias(operands.pairs[2], row),
            sigmoid(sums.v + load_bias(operands.pairs[3], row)),
        );
    }
}

fn load_bias(pair: Pair, row: u32) -> f32 {
    if pair.bias != NOTHING {
        return bias[pair.bias + row];
    }
    return 0.0;
}

// A lane's part of a row's product.
fn expand(pair: Pair, t: u32, row: u32, lane: u32) -> f32 {
    let n_pieces = (pair.rank + 15u) / 16u;
    var sum = 0.0;
    switch pair.kind {
        case F16: {
            let start = pair.weights + 2u * row * n_pieces;
            for (var p = lane; p < n_pieces; p += N_LANES) {
                sum += dot_values(f16_piece(start + 2u * p), pair, t, p);
            }
        }
        case BF16: {
            let start = pair.weights + 2u * row * n_pieces;
            for (var p = lane; p < n_pieces; p += N_LANES) {
                sum += dot_values(bf16_piece(start + 2u * p), pair, t, p);
            }
        }
        default: {
            let start = pair.weights + 4u * row * n_pieces;
            for (var p = lane; p < n_pieces; p += N_LANES) {
                sum += dot_values(f32_piece(start + 4u * p), pair, t, p);
            }
        }
    }
    return sum;
}

fn dot_values(w: Piece, pair: Pair, t: u32, piece: u32) -> f32 {
    let i = 4u * piece;
    let low = dot(w.a, load_input(pair, t, i)) + dot(w.b, load_input(pair, t, i + 1u));
    return low + (dot(w.c, load_input(pair, t, i + 2u)) + dot(w.d, load_input(pair, t, i + 3u)));
}

// Four columns of a pair's input; zeros beyond the last column.
fn load_input(pair: Pair, t: u32, column4: u32) -> vec4<f32> {
    if 4u * column4 < pair.rank {
        return values[pair.input + t * (pair.rank / 4u) + column4];
    }
    return vec4<f32>(0.0);
}
