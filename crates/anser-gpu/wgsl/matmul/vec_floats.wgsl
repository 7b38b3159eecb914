// Products of a row of float weights by vec4s: eight columns of 16 bits or four of 32, neighbouring threads taking
// neighbouring ones. Follows floats.wgsl.

fn dot8(job: Job, low: vec4<f32>, high: vec4<f32>, column: u32, i: u32) -> f32 {
    return dot(low, input4(job, column, 2u * i)) + dot(high, input4(job, column, 2u * i + 1u));
}

// Of eight weights with the input of every column.
fn products8(job: Job, low: vec4<f32>, high: vec4<f32>, i: u32) -> Columns {
    var sums = Columns();
    sums.a.x = dot8(job, low, high, 0u, i);
    if COLUMNS > 1u {
        sums.a.y = dot8(job, low, high, 1u, i);
    }
    if COLUMNS > 2u {
        sums.a.z = dot8(job, low, high, 2u, i);
        sums.a.w = dot8(job, low, high, 3u, i);
    }
    if COLUMNS > 4u {
        sums.b.x = dot8(job, low, high, 4u, i);
        sums.b.y = dot8(job, low, high, 5u, i);
        sums.b.z = dot8(job, low, high, 6u, i);
        sums.b.w = dot8(job, low, high, 7u, i);
    }
    return sums;
}

fn f16_products(job: Job, bits: vec4<u32>, i: u32) -> Columns {
    return products8(job, f16_values(bits.xy), f16_values(bits.zw), i);
}

fn bf16_products(job: Job, bits: vec4<u32>, i: u32) -> Columns {
    return products8(job, bf16_values(bits.xy), bf16_values(bits.zw), i);
}

// Vec4s that are asked for before the first of them is needed: best if that is a share of a thread's part of a row.
override AHEAD: u32;

const MAX_AHEAD: u32 = 5u;

struct Ahead {
    bits: array<vec4<u32>, MAX_AHEAD>,
}

// Vec4s of a row: number `i` and the next ones of the same thread.
fn load_ahead(start: u32, i: u32) -> Ahead {
    var ahead: Ahead;
    for (var j = 0u; j < AHEAD; j++) {
        ahead.bits[j] = weights[start + i + j * N_LANES];
    }
    return ahead;
}

fn vec4_products(job: Job, bits: vec4<u32>, i: u32) -> Columns {
    if job.kind == F16 {
        return f16_products(job, bits, i);
    }
    return bf16_products(job, bits, i);
}

fn ahead_products(job: Job, loaded: Ahead, i: u32) -> Columns {
    var ahead = loaded;
    var sums = Columns();
    for (var j = 0u; j < AHEAD; j++) {
        sums = add(sums, vec4_products(job, ahead.bits[j], i + j * N_LANES));
    }
    return sums;
}

fn float_row_len(job: Job) -> u32 {
    return select(2u, 4u, job.kind == F32) * ((job_n_cols(job) + 15u) / 16u);
}

fn float_row_start(job: Job, row: u32) -> u32 {
    return job.weights + row * float_row_len(job);
}

// A thread's first vec4s, up to AHEAD of them.
fn first_floats(job: Job, row: u32, lane: u32) -> Ahead {
    if lane + (AHEAD - 1u) * N_LANES < float_row_len(job) {
        return load_ahead(float_row_start(job, row), lane);
    }
    return Ahead();
}

// Of a thread's part of a row, of which the first vec4s may be there, with the input of every column.
fn float_products(job: Job, row: u32, lane: u32, first: Ahead) -> Columns {
    let row_len = float_row_len(job);
    let start = float_row_start(job, row);
    var sums = Columns();
    if job.kind == F32 {
        for (var i = lane; i < row_len / 2u; i += N_LANES) {
            let low = bitcast<vec4<f32>>(weights[start + 2u * i]);
            let high = bitcast<vec4<f32>>(weights[start + 2u * i + 1u]);
            sums = add(sums, products8(job, low, high, i));
        }
        return sums;
    }
    var i = lane;
    if i + (AHEAD - 1u) * N_LANES < row_len {
        sums = ahead_products(job, first, i);
        i += AHEAD * N_LANES;
    }
    for (; i + (AHEAD - 1u) * N_LANES < row_len; i += AHEAD * N_LANES) {
        sums = add(sums, ahead_products(job, load_ahead(start, i), i));
    }
    for (; i < row_len; i += N_LANES) {
        sums = add(sums, vec4_products(job, weights[start + i], i));
    }
    return sums;
}
