// Quantized weights, and inputs in 8 bits (see bytes.wgsl): a share is two pieces of 16 columns. Follows jobs.wgsl,
// columns.wgsl, vec_input_vec4.wgsl and weight/*.wgsl.

// What a thread has of each row: pieces `p` and `p + 1` of a unit.
struct Share {
    unit: u32,
    p: u32,
    is_there: bool,
}

alias Loaded = Unit;

// Two pieces and their scales, of weights or of an input.
struct Held {
    low: vec4<u32>,
    high: vec4<u32>,
    low_scale: vec2<f32>,
    high_scale: vec2<f32>,
}

override UNIT_SHARES: u32 = UNIT_PIECES / 2u;

fn n_shares(job: Job) -> u32 {
    return N_PIECES / 2u;
}

fn share_of(number: u32, is_there: bool) -> Share {
    return Share(number / UNIT_SHARES, 2u * (number % UNIT_SHARES), is_there);
}

// Of a share that is not there nothing is added up.
fn hold(job: Job, share: Share, column: u32) -> Held {
    let start = column_token(column) * N_PIECES;
    let low = start + unit_piece(share.unit, share.p);
    let high = start + unit_piece(share.unit, share.p + 1u);
    return Held(
        input_bytes(job, low),
        input_bytes(job, high),
        select(vec2<f32>(0.0), input_scales(job, low), share.is_there),
        select(vec2<f32>(0.0), input_scales(job, high), share.is_there),
    );
}

fn load(job: Job, row: u32, share: Share) -> Loaded {
    return load_unit(job.weights + row * ROW_LEN, share.unit);
}

fn weights_of(loaded: Loaded, share: Share) -> Held {
    return Held(
        unit_quants(loaded, share.unit, share.p),
        unit_quants(loaded, share.unit, share.p + 1u),
        unit_scale(loaded, share.unit, share.p),
        unit_scale(loaded, share.unit, share.p + 1u),
    );
}

// An integer below 2²² as a float: the bits of 1.5 · 2²³ plus the integer are those of their sum, and adding is faster than
// converting.
const ZERO_BITS: i32 = 0x4b400000;
const ZERO: f32 = 12582912.0;

fn dot_bytes(q: vec4<u32>, n: vec4<u32>) -> f32 {
    let low = ZERO_BITS + dot4I8Packed(q.x, n.x) + dot4I8Packed(q.y, n.y);
    return bitcast<f32>(low + dot4I8Packed(q.z, n.z) + dot4I8Packed(q.w, n.w)) - ZERO;
}

// With weights s·q − o and inputs e·n, a piece contributes s·e·Σ q·n − o·e·Σ n.
fn product(weights: Held, held: Held) -> f32 {
    let low = held.low_scale.x * dot_bytes(weights.low, held.low);
    let high = held.high_scale.x * dot_bytes(weights.high, held.high);
    let offsets = weights.low_scale.y * held.low_scale.y + weights.high_scale.y * held.high_scale.y;
    return weights.low_scale.x * low + (weights.high_scale.x * high - offsets);
}
