// Lists the tokens of a chunk that can still be drawn. With filters these are the ones that the filters can reach, and the weights of all
// tokens are added up; without, the one that arrives first in the race for the draw. One workgroup per chunk of a row. Follows
// sample/drawn.wgsl and sample/numbers.wgsl.

override N_VOCAB: u32; // V
override N_CHUNKS: u32;
override N_SEEDS: u32;

const WORKGROUP: u32 = 256u;
const NEVER: u32 = 0xffffffffu; // after all arrivals

struct Totals {
    n: atomic<u32>, // candidates
    low: atomic<u32>, // weight of all tokens, in parts
    middle: atomic<u32>,
    high: atomic<u32>,
}

@group(0) @binding(0) var<storage, read> adjusted: array<f32>;               // [O, V]
@group(0) @binding(1) var<storage, read> draws: array<Draw>;                 // [O]
@group(0) @binding(2) var<storage, read> drawn: array<DrawnToken>;               // [O]
@group(0) @binding(3) var<storage, read> seeds: array<u32>;                  // [O, N_SEEDS]
@group(0) @binding(4) var<storage, read> chunks: array<Chunk>;               // [O, chunks]
@group(0) @binding(5) var<storage, read_write> candidates: array<Candidate>; // [O, V]
@group(0) @binding(6) var<storage, read_write> totals: array<Totals>;        // [O], 0 before

var<workgroup> maxima: array<f32, MAX_CHUNKS>;
var<workgroup> sums: array<f32, MAX_CHUNKS>;
var<workgroup> bad: array<u32, MAX_CHUNKS>;
var<workgroup> n_listed: atomic<u32>;
var<workgroup> low: atomic<u32>;
var<workgroup> middle: atomic<u32>;
var<workgroup> high: atomic<u32>;
var<workgroup> start: u32;
var<workgroup> first_arrival: atomic<u32>; // the bits of numbers ≥ 0 sort like the numbers

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = workgroup.y;
    let draw = draws[row];
    if local < N_CHUNKS {
        let chunk = chunks[row * N_CHUNKS + local];
        maxima[local] = chunk.max;
        sums[local] = select(chunk.sum, 0.0, chunk.id == NO_TOKEN);
        bad[local] = chunk.is_bad;
    }
    if local == 0u {
        atomicStore(&n_listed, 0u);
        atomicStore(&low, 0u);
        atomicStore(&middle, 0u);
        atomicStore(&high, 0u);
        atomicStore(&first_arrival, NEVER);
    }
    workgroupBarrier();
    var max = LOWEST_LOGIT;
    var is_bad = 0u;
    for (var i = 0u; i < N_CHUNKS; i++) {
        max = select(max, maxima[i], maxima[i] > max);
        is_bad |= bad[i];
    }
    if local < N_CHUNKS {
        sums[local] *= exp_of_at_most_0((maxima[local] - max) * draw.scale);
    }
    workgroupBarrier();
    var whole = 0.0;
    for (var i = 0u; i < N_CHUNKS; i++) {
        whole += sums[i];
    }
    let has_filter = (draw.flags & HAS_FILTER) != 0u;
    let lowest = lowest_useful_weight(draw, whole);
    let seed = seeds[row * N_SEEDS + drawn[row].n_drawn % N_SEEDS];

    // Where each of the invocation's tokens goes in the workgroup's part of the list.
    const N_OWN: u32 = CHUNK_LEN / WORKGROUP;
    var own = vec3<u32>(0u);
    var keys: array<u32, N_OWN>;
    var targets: array<u32, N_OWN>;
    var arrivals: array<u32, N_OWN>;
    for (var i = 0u; i < N_OWN; i++) {
        let token = workgroup.x * CHUNK_LEN + i * WORKGROUP + local;
        targets[i] = NO_TOKEN;
        arrivals[i] = NEVER;
        if token < N_VOCAB && is_bad == 0u {
            let logit = adjusted[row * N_VOCAB + token];
            let weight = exp_of_at_most_0((logit - max) * draw.scale);
            own += parts_of(weight);
            if weight >= lowest {
                keys[i] = key_of(logit);
                if has_filter {
                    targets[i] = atomicAdd(&n_listed, 1u);
                } else {
                    arrivals[i] = bitcast<u32>(arrival_of(seed, token, weight));
                    atomicMin(&first_arrival, arrivals[i]);
                }
            }
        }
    }
    workgroupBarrier();
    for (var i = 0u; i < N_OWN; i++) {
        if arrivals[i] == atomicLoad(&first_arrival) && arrivals[i] != NEVER {
            targets[i] = atomicAdd(&n_listed, 1u);
        }
    }
    atomicAdd(&low, own.x);
    atomicAdd(&middle, own.y);
    atomicAdd(&high, own.z);
    workgroupBarrier();
    if local == 0u {
        start = atomicAdd(&totals[row].n, atomicLoad(&n_listed));
        atomicAdd(&totals[row].low, atomicLoad(&low));
        atomicAdd(&totals[row].middle, atomicLoad(&middle));
        atomicAdd(&totals[row].high, atomicLoad(&high));
    }
    workgroupBarrier();
    for (var i = 0u; i < N_OWN; i++) {
        if targets[i] != NO_TOKEN {
            let token = workgroup.x * CHUNK_LEN + i * WORKGROUP + local;
            candidates[row * N_VOCAB + start + targets[i]] = Candidate(keys[i], token);
        }
    }
}

// A weight such that no filter leaves the tokens below it: those below (1 − p)·sum / V weigh less than (1 − p)·sum together.
fn lowest_useful_weight(draw: Draw, whole: f32) -> f32 {
    const BELOW: f32 = 0.99; // on the safe side of rounding
    let top_p_is_of_top_k = draw.top_k > 0u && (draw.flags & RENORMALIZES) != 0u;
    if (draw.flags & HAS_FILTER) == 0u || top_p_is_of_top_k {
        return MIN_POSITIVE;
    }
    return max(max(draw.beyond_p * whole / f32(N_VOCAB), draw.min_p) * BELOW, MIN_POSITIVE);
}
