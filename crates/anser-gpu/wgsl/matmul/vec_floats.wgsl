// Products of a row of float weights by vec4s: eight columns of 16 bits or four of 32, neighbouring threads taking
// neighbouring ones. Follows floats.wgsl.

fn dot8(job: Job, low: vec4<f32>, high: vec4<f32>, column: u32, i: u32) -> f32 {
    let n = job_n_cols(job);
    let start = job.x + column_token(column) * n;
    return dot(low, input4(start, 2u * i, n)) + dot(high, input4(start, 2u * i + 1u, n));
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

// Of a thread's part of a row with the input of every column.
fn float_products(job: Job, row: u32, lane: u32) -> Columns {
    let n_pieces = (job_n_cols(job) + 15u) / 16u;
    let row_len = select(2u, 4u, job.kind == F32) * n_pieces;
    let start = job.weights + row * row_len;
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
    for (; i + (AHEAD - 1u) * N_LANES < row_len; i += AHEAD * N_LANES) {
        let a = weights[start + i];
        let b = weights[start + i + N_LANES];
        let c = weights[start + i + 2u * N_LANES];
        let d = weights[start + i + 3u * N_LANES];
        if job.kind == F16 {
            sums = add(sums, f16_products(job, a, i));
            sums = add(sums, f16_products(job, b, i + N_LANES));
            sums = add(sums, f16_products(job, c, i + 2u * N_LANES));
            sums = add(sums, f16_products(job, d, i + 3u * N_LANES));
        } else {
            sums = add(sums, bf16_products(job, a, i));
            sums = add(sums, bf16_products(job, b, i + N_LANES));
            sums = add(sums, bf16_products(job, c, i + 2u * N_LANES));
            sums = add(sums, bf16_products(job, d, i + 3u * N_LANES));
        }
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
