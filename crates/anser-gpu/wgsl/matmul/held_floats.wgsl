// Weights and inputs in floats: a share is eight columns. Follows jobs.wgsl, columns.wgsl, vec_input_vec4.wgsl and floats.wgsl.

// What a thread has of each row.
struct Share {
    number: u32,
    is_there: bool,
}

// The bits of eight weights: of 16-bit ones, `low` alone.
struct Loaded {
    low: vec4<u32>,
    high: vec4<u32>,
    kind: u32,
}

// Eight weights or inputs.
struct Held {
    low: vec4<f32>,
    high: vec4<f32>,
}

// Rows are padded with zeros to whole pieces of 16 columns.
fn n_shares(job: Job) -> u32 {
    return (job_n_cols(job) + 15u) / 16u * 2u;
}

fn share_of(number: u32, is_there: bool) -> Share {
    return Share(number, is_there);
}

// Of a share that is not there nothing is added up.
fn hold(job: Job, share: Share, column: u32) -> Held {
    let low = input4(job, column, 2u * share.number);
    let high = input4(job, column, 2u * share.number + 1u);
    return Held(select(vec4<f32>(0.0), low, share.is_there), select(vec4<f32>(0.0), high, share.is_there));
}

fn load(job: Job, row: u32, share: Share) -> Loaded {
    let i = row * n_shares(job) + share.number;
    if job.kind == F32 {
        return Loaded(weights[job.weights + 2u * i], weights[job.weights + 2u * i + 1u], F32);
    }
    return Loaded(weights[job.weights + i], vec4<u32>(0u), job.kind);
}

fn weights_of(loaded: Loaded, share: Share) -> Held {
    if loaded.kind == F16 {
        return Held(f16_values(loaded.low.xy), f16_values(loaded.low.zw));
    }
    if loaded.kind == BF16 {
        return Held(bf16_values(loaded.low.xy), bf16_values(loaded.low.zw));
    }
    return Held(bitcast<vec4<f32>>(loaded.low), bitcast<vec4<f32>>(loaded.high));
}

fn product(weights: Held, held: Held) -> f32 {
    return dot(weights.low, held.low) + dot(weights.high, held.high);
}
