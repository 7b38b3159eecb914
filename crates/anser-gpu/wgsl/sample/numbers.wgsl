// The numbers of the sampler. Follows sample/drawn.wgsl.
//
// Weights of tokens are added up as integers: sums are then the same in any order, so that invocations may add in any.

// How a sequence draws.
struct Draw {
    scale: f32,      // 1 / temperature of the weights that the filters see
    last_scale: f32, // 1 / temperature of the weights that are drawn from
    beyond_p: f32,   // 1 − top-p
    min_p: f32,      // 0 = off
    top_k: u32,      // 0 = off
    top_p: u32,      // of 2³²
    presence: f32,
    frequency: f32,
    decay: f32,
    flags: u32,      // sum of those below
}

const HAS_FILTER: u32 = 1u;    // any of top-k, top-p and min-p
const HAS_TOP_P: u32 = 2u;
const RENORMALIZES: u32 = 4u;  // top-p refers to what top-k leaves over

// What a chunk of the vocabulary holds.
struct Chunk {
    max: f32,    // largest logit
    id: u32,     // its lowest token; NO_TOKEN if all are −∞
    is_bad: u32, // 1 if a logit is NaN or +∞
    sum: f32,    // Σ exp((logit − max) · scale), roughly
}

const CHUNK_LEN: u32 = 1024u;
const MAX_CHUNKS: u32 = 64u;

struct Candidate {
    key: u32, // see key_of
    id: u32,
}

const SIGN: u32 = 0x80000000u;
const MIN_POSITIVE: f32 = 1.1754944e-38;
const LOWEST_LOGIT: f32 = -0x1.fffffep+127f;

// Bits that sort in descending order of the logits; 0 and −0 are equal.
fn key_of(logit: f32) -> u32 {
    let bits = bitcast<u32>(logit);
    if bits == SIGN {
        return ~SIGN;
    }
    return select(bits, ~(bits | SIGN), (bits & SIGN) == 0u);
}

fn logit_of(key: u32) -> f32 {
    return bitcast<f32>(select(~key & ~SIGN, key, (key & SIGN) != 0u));
}

// exp(x) for x ≤ 0 within 3·10⁻⁷; 0 below ln(MIN_POSITIVE). The same formula as on the host: x = n·ln 2 + r, and a
// polynomial for exp(r).
fn exp_of_at_most_0(x: f32) -> f32 {
    const LOWEST: f32 = -87.33654;
    const LN_2_HIGH: f32 = 0.693359375;
    const LN_2_LOW: f32 = -0.00021219444005469058;
    let in_range = max(x, LOWEST);
    let n = round(in_range * 1.4426950408889634);
    let r = in_range - n * LN_2_HIGH - n * LN_2_LOW;
    var exp_r = 1.0 / 5040.0;
    exp_r = exp_r * r + 1.0 / 720.0;
    exp_r = exp_r * r + 1.0 / 120.0;
    exp_r = exp_r * r + 1.0 / 24.0;
    exp_r = exp_r * r + 1.0 / 6.0;
    exp_r = exp_r * r + 0.5;
    exp_r = exp_r * r + 1.0;
    exp_r = exp_r * r + 1.0;
    let two_to_n = bitcast<f32>(u32(i32(n) + 127) << 23u);
    return select(0.0, exp_r * two_to_n, x >= LOWEST);
}

// A weight of 0 to 1 in units of 2⁻⁴⁷: 16, 16 and 16 bits, lowest first. Up to 2¹⁶ of them can be added up part by part.
fn parts_of(weight: f32) -> vec3<u32> {
    let high = weight * 32768.0;
    let middle = (high - floor(high)) * 65536.0;
    let low = (middle - floor(middle)) * 65536.0;
    return vec3<u32>(u32(low), u32(middle), u32(high));
}

// When a token of this weight arrives in the race for the draw of `seed`; the first one is drawn, with probability weight / Σ weights.
fn arrival_of(seed: u32, token: u32, weight: f32) -> f32 {
    const LEAST: f32 = 1e-36; // keeps the time finite; the likeliest token weighs 1, so none of less arrives first
    return waiting_time(seed, token) / max(weight, LEAST);
}

// −ln(1 − u) for a random u between 0 and 1. The same formula as on the host: 1 − u = 2⁻ⁿ·(1 − d) with 0 < d ≤ ½, so that
// −ln(1 − u) = n·ln 2 + 2·artanh(z) with z = d / (2 − d), by the series of artanh.
fn waiting_time(seed: u32, token: u32) -> f32 {
    let rest = max(~mix_bits(mix_bits(token + 0x9e3779b9u) ^ seed), 1u);
    let n = countLeadingZeros(rest);
    let rest_and_half = (rest << n) | ((1u << n) >> 1u);
    let d = (f32(~rest_and_half) + 0.5) * 0x1p-32;
    let z = d / (2.0 - d);
    let square = z * z;
    var series = 1.0 / 13.0;
    series = series * square + 1.0 / 11.0;
    series = series * square + 1.0 / 9.0;
    series = series * square + 1.0 / 7.0;
    series = series * square + 0.2;
    series = series * square + 1.0 / 3.0;
    series = series * square + 1.0;
    return f32(n) * 0.6931471805599453 + 2.0 * z * series;
}

// A permutation in which every bit of the argument moves every bit of the result half of the time.
fn mix_bits(bits: u32) -> u32 {
    var x = (bits ^ (bits >> 16u)) * 0x7feb352du;
    x = (x ^ (x >> 15u)) * 0x846ca68bu;
    return x ^ (x >> 16u);
}

// Numbers of 64 bits: low word, high word.

fn wide_sum(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn wide_of_parts(parts: vec3<u32>) -> vec2<u32> {
    return wide_sum(vec2<u32>(parts.x, parts.z), vec2<u32>(parts.y << 16u, parts.y >> 16u));
}

fn is_at_least(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y > b.y || (a.y == b.y && a.x >= b.x);
}

fn wide_product(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let crossed = vec2<u32>((a >> 16u) * (b & 0xffffu), (a & 0xffffu) * (b >> 16u));
    let sum = wide_sum(vec2<u32>(low, (a >> 16u) * (b >> 16u)), vec2<u32>(crossed.x << 16u, crossed.x >> 16u));
    return wide_sum(sum, vec2<u32>(crossed.y << 16u, crossed.y >> 16u));
}

// share / 2³² of `whole`, rounded down.
fn wide_share(whole: vec2<u32>, share: u32) -> vec2<u32> {
    return wide_sum(wide_product(whole.y, share), vec2<u32>(wide_product(whole.x, share).y, 0u));
}
