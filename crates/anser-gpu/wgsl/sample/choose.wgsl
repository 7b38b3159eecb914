// Draws a token from the listed candidates of every row. One workgroup per row. Follows step.wgsl, sample/turn.wgsl,
// sample/drawn.wgsl and sample/numbers.wgsl.
//
// Candidates are ranked by their logits, equal ones by their ids. A filter keeps the first of them up to a last one: the
// one at which their number or their weight reaches some goal. That one is found digit by digit of its key, and of its id
// among equals: 256 bins hold what the candidates with the same digit weigh. Of the candidates that all filters leave, the
// one is drawn that arrives first (see arrival_of). The list is in any order; nothing here depends on it.

override N_VOCAB: u32; // V
override N_SEEDS: u32;
override WORKGROUP: u32; // at least N_BINS

const N_BINS: u32 = 256u;
const ID_BITS: u32 = 16u;

struct Totals {
    n: u32,
    low: u32,
    middle: u32,
    high: u32,
}

@group(0) @binding(0) var<storage, read> candidates: array<Candidate>; // [O, V]
@group(0) @binding(1) var<storage, read> draws: array<Draw>;           // [O]
@group(0) @binding(2) var<storage, read> seeds: array<u32>;            // [O, N_SEEDS]
@group(0) @binding(3) var<storage, read_write> totals: array<Totals>;  // [O]
@group(0) @binding(4) var<storage, read_write> drawn: array<DrawnToken>;   // [O]
@group(0) @binding(5) var<storage, read_write> sequences: array<Sequence>; // [B], B = O
@group(0) @binding(6) var<storage, read_write> tokens: array<Token>;   // [T], T = O

// The candidates of a row that are left.
struct Kept {
    row: u32,
    n: u32,           // all
    last: Candidate,  // those after it are gone,
    min_weight: f32,  // and those below it, by weights of this
    scale: f32,
    max: f32,         // the largest logit
    known: u32,      // the bits that all keys share;
    n_free: u32,      // the other ones
}

struct Goal {
    counts: bool,      // candidates instead of their weight
    scale: f32,        // of the weights
    wanted: vec2<u32>, // to be reached, or
    share: u32,        // this share / 2³² of what all that are kept weigh, if not 0
}

var<workgroup> smallest_key: atomic<u32>;
var<workgroup> largest_key: atomic<u32>;
var<workgroup> first_arrival: atomic<u32>;
var<workgroup> first_token: atomic<u32>;
var<workgroup> bin_n: array<atomic<u32>, N_BINS>;
var<workgroup> bin_low: array<atomic<u32>, N_BINS>;
var<workgroup> bin_middle: array<atomic<u32>, N_BINS>;
var<workgroup> bin_high: array<atomic<u32>, N_BINS>;
var<workgroup> sums: array<vec2<u32>, 2u * N_BINS>;
var<workgroup> reached: atomic<u32>;
var<workgroup> told: vec4<u32>; // by one invocation to all

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = workgroup.x;
    let draw = draws[row];
    if local == 0u {
        let total = totals[row];
        let whole = wide_of_parts(vec3<u32>(total.low, total.middle, total.high));
        told = vec4<u32>(total.n, whole, seeds[row * N_SEEDS + drawn[row].n_drawn % N_SEEDS]);
        atomicStore(&smallest_key, 0xffffffffu);
        atomicStore(&largest_key, 0u);
        atomicStore(&first_arrival, 0xffffffffu);
        atomicStore(&first_token, NO_TOKEN);
    }
    let start = workgroupUniformLoad(&told);
    let n = start.x;
    let whole = start.yz;
    let seed = start.w;
    for (var i = local; i < n; i += WORKGROUP) {
        let key = candidates[row * N_VOCAB + i].key;
        atomicMin(&smallest_key, key);
        atomicMax(&largest_key, key);
    }
    workgroupBarrier();
    if local == 0u {
        told = vec4<u32>(atomicLoad(&smallest_key), atomicLoad(&largest_key), 0u, 0u);
    }
    let keys = workgroupUniformLoad(&told);

    var token = NO_TOKEN;
    if n > 0u {
        let n_free = 32u - countLeadingZeros(keys.x ^ keys.y);
        let last = Candidate(0xffffffffu, 0xffffffffu);
        var kept = Kept(row, n, last, 0.0, draw.scale, logit_of(keys.x), without_low(keys.x, n_free), n_free);
        let none = vec2<u32>(0u);
        if draw.top_k > 0u && draw.top_k < n {
            kept.last = last_within(kept, Goal(true, 0.0, vec2<u32>(draw.top_k, 0u), 0u), local);
        }
        if (draw.flags & HAS_TOP_P) != 0u {
            let of_kept = draw.top_k > 0u && (draw.flags & RENORMALIZES) != 0u;
            let wanted = wide_share(whole, draw.top_p);
            kept.last = last_within(kept, Goal(false, draw.scale, wanted, select(0u, draw.top_p, of_kept)), local);
        }
        kept.min_weight = draw.min_p;
        token = first_to_arrive(kept, seed, draw.last_scale, local);
    }
    if local == 0u {
        totals[row] = Totals(0u, 0u, 0u, 0u);
        drawn[row] = DrawnToken(token, drawn[row].n_drawn + 1u);
        sequences[row] = turn(sequences[row], token != NO_TOKEN);
        tokens[row] = turn_token(tokens[row], token != NO_TOKEN);
    }
}

// The one of the kept candidates, weighed with `scale`, that wins the race for the draw of `seed`; of equals the lowest id.
fn first_to_arrive(kept: Kept, seed: u32, scale: f32, local: u32) -> u32 {
    for (var i = local; i < kept.n; i += WORKGROUP) {
        let candidate = candidates[kept.row * N_VOCAB + i];
        if is_kept(candidate, kept) {
            atomicMin(&first_arrival, arrival_bits(candidate, kept, seed, scale));
        }
    }
    workgroupBarrier();
    for (var i = local; i < kept.n; i += WORKGROUP) {
        let candidate = candidates[kept.row * N_VOCAB + i];
        if is_kept(candidate, kept) && arrival_bits(candidate, kept, seed, scale) == atomicLoad(&first_arrival) {
            atomicMin(&first_token, candidate.id);
        }
    }
    workgroupBarrier();
    if local == 0u {
        told = vec4<u32>(atomicLoad(&first_token), 0u, 0u, 0u);
    }
    return workgroupUniformLoad(&told).x;
}

// When a candidate arrives, as bits, which sort like the numbers since those are at least 0.
fn arrival_bits(candidate: Candidate, kept: Kept, seed: u32, scale: f32) -> u32 {
    return bitcast<u32>(arrival_of(seed, candidate.id, weight_of(candidate.key, kept.max, scale)));
}

// The first of the kept candidates, by rank, with which the goal is reached; the last one if it never is.
fn last_within(kept: Kept, goal: Goal, local: u32) -> Candidate {
    var is_tie = false;        // the key is known, its candidates are told apart by their ids
    var key = 0u;
    var prefix = kept.known;  // the digits known so far,
    var n_free = kept.n_free;  // and the bits that are not
    var before = vec2<u32>(0u); // number or weight of the candidates before those of this prefix
    var wanted = goal.wanted;
    for (var turn = 0u; turn < 7u; turn++) {
        if n_free == 0u {
            if is_tie {
                break;
            }
            is_tie = true;
            key = prefix;
            prefix = 0u;
            n_free = ID_BITS;
        }
        let shift = n_free - min(n_free, 8u);
        if local < N_BINS {
            atomicStore(&bin_n[local], 0u);
            atomicStore(&bin_low[local], 0u);
            atomicStore(&bin_middle[local], 0u);
            atomicStore(&bin_high[local], 0u);
        }
        if local == 0u {
            atomicStore(&reached, 0xffffffffu);
            told = vec4<u32>(0u);
        }
        workgroupBarrier();
        for (var i = local; i < kept.n; i += WORKGROUP) {
            let candidate = candidates[kept.row * N_VOCAB + i];
            if has_prefix(candidate, is_tie, key, prefix, n_free) && is_kept(candidate, kept) {
                let bin = (select(candidate.key, candidate.id, is_tie) >> shift) % N_BINS;
                atomicAdd(&bin_n[bin], 1u);
                if !goal.counts {
                    let parts = parts_of(weight_of(candidate.key, kept.max, goal.scale));
                    atomicAdd(&bin_low[bin], parts.x);
                    atomicAdd(&bin_middle[bin], parts.y);
                    atomicAdd(&bin_high[bin], parts.z);
                }
            }
        }
        workgroupBarrier();
        if local < N_BINS {
            let low_parts = vec2<u32>(atomicLoad(&bin_low[local]), atomicLoad(&bin_middle[local]));
            let weight = wide_of_parts(vec3<u32>(low_parts, atomicLoad(&bin_high[local])));
            sums[local] = select(weight, vec2<u32>(atomicLoad(&bin_n[local]), 0u), goal.counts);
        }
        workgroupBarrier();
        // Each bin's sum becomes that of all bins up to it.
        var offset = 0u;
        for (var distance = 1u; distance < N_BINS; distance *= 2u) {
            if local < N_BINS {
                var sum = sums[offset + local];
                if local >= distance {
                    sum = wide_sum(sum, sums[offset + local - distance]);
                }
                sums[N_BINS - offset + local] = sum;
            }
            offset = N_BINS - offset;
            workgroupBarrier();
        }
        let total = sums[offset + N_BINS - 1u];
        if turn == 0u && goal.share > 0u {
            wanted = wide_share(total, goal.share);
        }
        let end = wide_sum(before, total);
        if is_at_least(wanted, end) {
            wanted = end;
        }
        if local < N_BINS {
            if atomicLoad(&bin_n[local]) > 0u && is_at_least(wide_sum(before, sums[offset + local]), wanted) {
                atomicMin(&reached, local);
            }
        }
        workgroupBarrier();
        if local == atomicLoad(&reached) {
            var sum = before;
            if local > 0u {
                sum = wide_sum(before, sums[offset + local - 1u]);
            }
            told = vec4<u32>(local, atomicLoad(&bin_n[local]), sum);
        }
        let found = workgroupUniformLoad(&told);
        prefix |= found.x << shift;
        n_free = shift;
        before = found.zw;
        if found.y <= 1u {
            break;
        }
    }
    // One is left.
    for (var i = local; i < kept.n; i += WORKGROUP) {
        let candidate = candidates[kept.row * N_VOCAB + i];
        if has_prefix(candidate, is_tie, key, prefix, n_free) && is_kept(candidate, kept) {
            told = vec4<u32>(candidate.key, candidate.id, 0u, 0u);
        }
    }
    let one = workgroupUniformLoad(&told);
    return Candidate(one.x, one.y);
}

fn without_low(x: u32, n_bits: u32) -> u32 {
    if n_bits == 32u {
        return 0u;
    }
    return (x >> n_bits) << n_bits;
}

fn has_prefix(candidate: Candidate, is_tie: bool, key: u32, prefix: u32, n_free: u32) -> bool {
    if is_tie {
        return candidate.key == key && without_low(candidate.id, n_free) == prefix;
    }
    return without_low(candidate.key, n_free) == prefix;
}

fn is_kept(candidate: Candidate, kept: Kept) -> bool {
    let is_after = candidate.key > kept.last.key || (candidate.key == kept.last.key && candidate.id > kept.last.id);
    return !is_after && (kept.min_weight <= 0.0 || weight_of(candidate.key, kept.max, kept.scale) >= kept.min_weight);
}

fn weight_of(key: u32, max: f32, scale: f32) -> f32 {
    return exp_of_at_most_0((logit_of(key) - max) * scale);
}
