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

// Vec4s that are asked for before the first of them is needed.
const AHEAD: u32 = 4u;

struct Four {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
}

// Vec4s of a row: number `i` and the next ones of the same thread.
fn load_four(start: u32, i: u32) -> Four {
    let at = start + i;
    return Four(weights[at], weights[at + N_LANES], weights[at + 2u * N_LANES], weights[at + 3u * N_LANES]);
}

fn four_products(job: Job, four: Four, i: u32) -> Columns {
    if job.kind == F16 {
        let low = add(f16_products(job, four.a, i), f16_products(job, four.b, i + N_LANES));
        return add(low, add(f16_products(job, four.c, i + 2u * N_LANES), f16_products(job, four.d, i + 3u * N_LANES)));
    }
    let low = add(bf16_products(job, four.a, i), bf16_products(job, four.b, i + N_LANES));
    return add(low, add(bf16_products(job, four.c, i + 2u * N_LANES), bf16_products(job, four.d, i + 3u * N_LANES)));
}

fn float_row_len(job: Job) -> u32 {
    return select(2u, 4u, job.kind == F32) * ((job_n_cols(job) + 15u) / 16u);
}

fn float_row_start(job: Job, row: u32) -> u32 {
    return job.weights + row * float_row_len(job);
}

// A thread's first vec4s if it has so many.
fn first_floats(job: Job, row: u32, lane: u32) -> Four {
    if lane + (AHEAD - 1u) * N_LANES < float_row_len(job) {
        return load_four(float_row_start(job, row), lane);
    }
    return Four();
}

// Of a thread's part of a row, of which the first vec4s may be there, with the input of every column.
fn float_products(job: Job, row: u32, lane: u32, first: Four) -> Columns {
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
        sums = four_products(job, first, i);
        i += AHEAD * N_LANES;
    }
    for (; i + (AHEAD - 1u) * N_LANES < row_len; i += AHEAD * N_LANES) {
        sums = add(sums, four_products(job, load_four(start, i), i));
    }
    for (; i < row_len; i += N_LANES) {
        if job.kind == F16 {
            sums = add(sums, f16_products(job, weights[start + i], i));
        } else {
            sums = add(sums, bf16_products(job, weights[start + i], i));
        }
    }
    return sums;
}
