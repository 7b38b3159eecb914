// The first look at every logit: keeps a copy for the host to read later, counts the token that the step has read, applies
// bias and penalties, and finds the largest logit of every chunk. One workgroup per chunk of a row. Follows
// sample/drawn.wgsl and sample/numbers.wgsl.

override N_VOCAB: u32; // V

const WORKGROUP: u32 = 256u;

@group(0) @binding(0) var<storage, read> logits: array<f32>;         // [O, V]
@group(0) @binding(1) var<storage, read> draws: array<Draw>;         // [O]
@group(0) @binding(2) var<storage, read> drawn: array<DrawnToken>;       // [O]
@group(0) @binding(3) var<storage, read> bias: array<f32>;           // [O, V]
@group(0) @binding(4) var<storage, read_write> counts: array<f32>;   // [O, V] see below
@group(0) @binding(5) var<storage, read_write> adjusted: array<f32>; // [O, V]
@group(0) @binding(6) var<storage, read_write> kept: array<f32>;     // [O, V]
@group(0) @binding(7) var<storage, read_write> chunks: array<Chunk>; // [O, chunks]

// Counts of tokens that were not seen, or are never counted; all others are at least 0.
const NEVER_COUNTED: f32 = -2.0;
const NEVER_COUNTED_BUT_SEEN: f32 = -3.0;

var<workgroup> best_logit: array<f32, WORKGROUP>;
var<workgroup> best_id: array<u32, WORKGROUP>;
var<workgroup> bad: array<u32, WORKGROUP>;
var<workgroup> sums: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) n_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = workgroup.y;
    let draw = draws[row];
    let place = drawn[row];
    let end = min((workgroup.x + 1u) * CHUNK_LEN, N_VOCAB);

    var max = LOWEST_LOGIT;
    var id = NO_TOKEN;
    var is_bad = 0u;
    for (var token = workgroup.x * CHUNK_LEN + local; token < end; token += WORKGROUP) {
        let i = row * N_VOCAB + token;
        var count = counts[i];
        // The first token was counted by the host.
        if place.n_drawn > 0u {
            if count > 0.0 {
                count *= draw.decay;
            }
            if token == place.token {
                count = select(select(0.0, count, count > 0.0) + 1.0, NEVER_COUNTED_BUT_SEEN, count <= NEVER_COUNTED);
            }
            counts[i] = count;
        }
        let raw = logits[i];
        kept[i] = raw;
        var logit = raw + bias[i];
        if count >= 0.0 {
            logit -= draw.presence + count * draw.frequency;
        } else if count == NEVER_COUNTED_BUT_SEEN {
            logit -= draw.presence;
        }
        adjusted[i] = logit;
        let bits = bitcast<u32>(logit);
        if (bits & ~SIGN) > 0x7f800000u || bits == 0x7f800000u {
            is_bad = 1u;
        } else if logit > max || (logit == max && token < id) {
            max = logit;
            id = token;
        }
    }
    best_logit[local] = max;
    best_id[local] = id;
    bad[local] = is_bad;
    workgroupBarrier();
    for (var stride = WORKGROUP / 2u; stride > 0u; stride /= 2u) {
        if local < stride {
            let other = best_logit[local + stride];
            let other_id = best_id[local + stride];
            if other > best_logit[local] || (other == best_logit[local] && other_id < best_id[local]) {
                best_logit[local] = other;
                best_id[local] = other_id;
            }
            bad[local] |= bad[local + stride];
        }
        workgroupBarrier();
    }

    max = best_logit[0];
    var sum = 0.0;
    for (var token = workgroup.x * CHUNK_LEN + local; token < end; token += WORKGROUP) {
        sum += exp_of_at_most_0((adjusted[row * N_VOCAB + token] - max) * draw.scale);
    }
    sums[local] = sum;
    workgroupBarrier();
    for (var stride = WORKGROUP / 2u; stride > 0u; stride /= 2u) {
        if local < stride {
            sums[local] += sums[local + stride];
        }
        workgroupBarrier();
    }
    if local == 0u {
        chunks[row * n_workgroups.x + workgroup.x] = Chunk(max, best_id[0], bad[0], sums[0]);
    }
}
