// Products of two rows of quantized weights with activations in 8 bits (see bytes.wgsl), exact in integers within a piece: every
// input is read once for both. Where several tokens share a weight, inputs are most of what is read.
//
// With weights s·q − o and activations e·n, a piece contributes s·e·Σ q·n − o·e·Σ n.

fn dot_bytes(q: vec4<u32>, scale: vec2<f32>, n: vec4<u32>, e: vec2<f32>) -> f32 {
    let sum = dot4I8Packed(q.x, n.x) + dot4I8Packed(q.y, n.y) + dot4I8Packed(q.z, n.z) + dot4I8Packed(q.w, n.w);
    return scale.x * e.x * f32(sum) - scale.y * e.y;
}

// A piece of both rows.
struct PiecePair {
    q: vec4<u32>,
    scale: vec2<f32>,
    other_q: vec4<u32>,
    other_scale: vec2<f32>,
}

// Of both rows with the input of a column.
fn column_products(job: Job, pair: PiecePair, column: u32, piece: u32) -> vec2<f32> {
    let i = column_token(column) * N_PIECES + piece;
    let n = input_bytes(job.x + i);
    let e = scales[job.scales + i];
    return vec2<f32>(dot_bytes(pair.q, pair.scale, n, e), dot_bytes(pair.other_q, pair.other_scale, n, e));
}

// Sums of both rows, by column.
struct PairSums {
    c0: vec2<f32>,
    c1: vec2<f32>,
    c2: vec2<f32>,
    c3: vec2<f32>,
    c4: vec2<f32>,
    c5: vec2<f32>,
    c6: vec2<f32>,
    c7: vec2<f32>,
}

fn add_piece(job: Job, sums: PairSums, pair: PiecePair, piece: u32) -> PairSums {
    var s = sums;
    s.c0 += column_products(job, pair, 0u, piece);
    if COLUMNS > 1u {
        s.c1 += column_products(job, pair, 1u, piece);
    }
    if COLUMNS > 2u {
        s.c2 += column_products(job, pair, 2u, piece);
        s.c3 += column_products(job, pair, 3u, piece);
    }
    if COLUMNS > 4u {
        s.c4 += column_products(job, pair, 4u, piece);
        s.c5 += column_products(job, pair, 5u, piece);
        s.c6 += column_products(job, pair, 6u, piece);
        s.c7 += column_products(job, pair, 7u, piece);
    }
    return s;
}

fn pair_of(a: Unit, b: Unit, u: u32, p: u32) -> PiecePair {
    return PiecePair(unit_quants(a, u, p), unit_scale(a, u, p), unit_quants(b, u, p), unit_scale(b, u, p));
}

fn add_units(job: Job, sums: PairSums, start: u32, other_start: u32, u: u32) -> PairSums {
    let a = load_unit(start, u);
    let b = load_unit(other_start, u);
    var s = add_piece(job, sums, pair_of(a, b, u, 0u), unit_piece(u, 0u));
    if UNIT_PIECES > 1u {
        s = add_piece(job, s, pair_of(a, b, u, 1u), unit_piece(u, 1u));
    }
    if UNIT_PIECES > 2u {
        s = add_piece(job, s, pair_of(a, b, u, 2u), unit_piece(u, 2u));
        s = add_piece(job, s, pair_of(a, b, u, 3u), unit_piece(u, 3u));
    }
    return s;
}

// Of a thread's units of two rows with the input of every column.
fn quantized_pair(job: Job, row: u32, other: u32, lane: u32) -> ColumnsPair {
    let start = job.weights + row * ROW_LEN;
    let other_start = job.weights + other * ROW_LEN;
    var s = PairSums();
    for (var i = 0u; i < N_UNITS / N_LANES; i++) {
        s = add_units(job, s, start, other_start, i * N_LANES + lane);
    }
    if N_UNITS % N_LANES != 0u {
        let u = N_UNITS / N_LANES * N_LANES + lane;
        if u < N_UNITS {
            s = add_units(job, s, start, other_start, u);
        }
    }
    return ColumnsPair(
        Columns(vec4<f32>(s.c0.x, s.c1.x, s.c2.x, s.c3.x), vec4<f32>(s.c4.x, s.c5.x, s.c6.x, s.c7.x)),
        Columns(vec4<f32>(s.c0.y, s.c1.y, s.c2.y, s.c3.y), vec4<f32>(s.c4.y, s.c5.y, s.c6.y, s.c7.y)),
    );
}

fn quantized_products(job: Job, row: u32, lane: u32) -> Columns {
    return quantized_pair(job, row, row, lane).one;
}
