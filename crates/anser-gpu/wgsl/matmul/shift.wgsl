// The input of products for one token is a token shift of a layer norm, x' = n + (n_before − n) ∘ mix with n = norm(x), which
// every workgroup makes for itself while its first weights are on their way: so it takes no dispatch of its own. An invocation
// has four columns. Follows step.wgsl, bytes.wgsl, jobs.wgsl and lanes/subgroup.wgsl.

override EPS: f32;
override READS_BYTES: bool; // whether quantized weights meet inputs in 8 bits

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;           // [C / 4]
@group(0) @binding(2) var<storage, read_write> state: array<vec4<f32>>; // [slots, 2, C / 4]
@group(0) @binding(3) var<storage, read> vectors: array<vec4<f32>>;     // the layer's: a job has the first vec4 of those it needs
@group(0) @binding(4) var<storage, read> tokens: array<Token>;          // [1]

override ROW_QUADS: u32 = N_COLS / 4u; // at most WORKGROUP

override ALL_BYTES: bool = READS_BYTES && !HAS_FLOATS;
override N_INPUT: u32 = select(ROW_QUADS, N_PIECES, ALL_BYTES);
override N_INPUT_SCALES: u32 = select(1u, N_PIECES, READS_BYTES);

var<workgroup> input: array<vec4<u32>, N_INPUT>; // floats [C / 4], or bytes [C / 16]
var<workgroup> input_scales_of: array<vec2<f32>, N_INPUT_SCALES>;

override MAX_SUBGROUPS: u32 = WORKGROUP / 4u; // no device has smaller ones
override N_SUBGROUP_SUMS: u32 = 2u * MAX_SUBGROUPS;

// Calls alternate between two halves: then one barrier a call is enough, since no thread still reads the half written to.
var<workgroup> subgroup_sums: array<f32, N_SUBGROUP_SUMS>;
var<private> subgroup_sums_half: u32 = 0u;

// Sum of `value` over the workgroup, in every invocation. All of them must call it.
fn workgroup_sum(value: f32) -> f32 {
    subgroup_sums_half = MAX_SUBGROUPS - subgroup_sums_half;
    let sum = subgroupAdd(value);
    if subgroup_lane == 0u {
        subgroup_sums[subgroup_sums_half + subgroup_number] = sum;
    }
    workgroupBarrier();
    var sums = 0.0;
    for (var i = subgroup_lane; i < WORKGROUP / subgroup_len; i += subgroup_len) {
        sums += subgroup_sums[subgroup_sums_half + i];
    }
    return subgroupAdd(sums);
}

fn sum4(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

// The whole workgroup must call it.
fn make_input(job: Job, number: u32, index: u32) {
    let q = min(index, ROW_QUADS - 1u);
    let is_there = index < ROW_QUADS;
    let own = x[q];
    let norm_scale = vectors[job.norm_scale + q];
    let norm_offset = vectors[job.norm_offset + q];
    let mix = vectors[job.x + q];
    // The state comes last: its place is not known before the token is there, and what is asked for after it would wait, too.
    let token = tokens[0];
    let state_before = (token.slot * 2u + token.half) * ROW_QUADS;
    let state_after = (token.to_slot * 2u + 1u - token.half) * ROW_QUADS;
    var before = state[state_before + q];

    let mean = workgroup_sum(select(0.0, sum4(own), is_there)) / f32(N_COLS);
    let d = own - mean;
    let variance = workgroup_sum(select(0.0, sum4(d * d), is_there)) / f32(N_COLS);
    let normed = d * inverseSqrt(variance + EPS) * norm_scale + norm_offset;
    if token.previous != PREVIOUS_STATE {
        before = vec4<f32>(0.0);
    }
    if number == 0u && is_there {
        state[state_after + q] = normed;
    }
    put(job, index, normed + (before - normed) * mix);
    workgroupBarrier();
}

// Puts four columns where the job's weights want them. All invocations must call it: four make a piece of bytes.
fn put(job: Job, q: u32, value: vec4<f32>) {
    if !READS_BYTES || (HAS_FLOATS && job.kind != QUANTIZED) {
        if q < ROW_QUADS {
            input[q] = bitcast<vec4<u32>>(value);
        }
        return;
    }
    var most = largest(abs(value));
    most = max(most, subgroupShuffleXor(most, 1u));
    most = max(most, subgroupShuffleXor(most, 2u));
    let word = four_bytes(value, byte_inverse(most));
    let words = vec4<u32>(word, subgroupShuffleXor(word, 1u), subgroupShuffleXor(word, 2u), subgroupShuffleXor(word, 3u));
    if q % 4u == 0u && q < ROW_QUADS {
        input[q / 4u] = words;
        input_scales_of[q / 4u] = byte_scales(most, words);
    }
}

// Four columns of the input.
fn input4(job: Job, column: u32, column4: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(input[column4]);
}

fn input_bytes(job: Job, piece: u32) -> vec4<u32> {
    return input[piece];
}

fn input_scales(job: Job, piece: u32) -> vec2<f32> {
    return input_scales_of[piece];
}

fn load_bias(job: Job, row: u32) -> f32 {
    if job.bias != NOTHING {
        let i = job.bias + job.first_row + row;
        return vectors[i / 4u][i % 4u];
    }
    return 0.0;
}

fn load_residual(job: Job, row: u32, token: u32) -> f32 {
    return 0.0;
}

// No product of a shifted norm has a gate.
fn load_gate(job: Job, row: u32) -> f32 {
    return 1.0;
}
