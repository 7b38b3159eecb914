// Products of units of quantized weights with activations in 8 bits (see bytes.wgsl), exact in integers within a piece.
//
// With weights s·q − o and activations e·n, a piece contributes s·e·Σ q·n − o·e·Σ n.

fn dot_bytes(q: vec4<u32>, scale: vec2<f32>, n: vec4<u32>, e: vec2<f32>) -> f32 {
    let sum = dot4I8Packed(q.x, n.x) + dot4I8Packed(q.y, n.y) + dot4I8Packed(q.z, n.z) + dot4I8Packed(q.w, n.w);
    return scale.x * e.x * f32(sum) - scale.y * e.y;
}

fn column_products(job: Job, q: vec4<u32>, scale: vec2<f32>, column: u32, piece: u32) -> f32 {
    let i = column_token(column) * N_PIECES + piece;
    return dot_bytes(q, scale, input_bytes(job, i), input_scales(job, i));
}

fn bytes_products(job: Job, q: vec4<u32>, scale: vec2<f32>, piece: u32) -> Columns {
    var sums = Columns();
    sums.a.x = column_products(job, q, scale, 0u, piece);
    if COLUMNS > 1u {
        sums.a.y = column_products(job, q, scale, 1u, piece);
    }
    if COLUMNS > 2u {
        sums.a.z = column_products(job, q, scale, 2u, piece);
        sums.a.w = column_products(job, q, scale, 3u, piece);
    }
    if COLUMNS > 4u {
        sums.b.x = column_products(job, q, scale, 4u, piece);
        sums.b.y = column_products(job, q, scale, 5u, piece);
        sums.b.z = column_products(job, q, scale, 6u, piece);
        sums.b.w = column_products(job, q, scale, 7u, piece);
    }
    return sums;
}

// Products of unit `u` of a row with the input of every column.
fn unit_products(job: Job, unit: Unit, u: u32) -> Columns {
    var sums = bytes_products(job, unit_quants(unit, u, 0u), unit_scale(unit, u, 0u), unit_piece(u, 0u));
    if UNIT_PIECES > 1u {
        sums = add(sums, bytes_products(job, unit_quants(unit, u, 1u), unit_scale(unit, u, 1u), unit_piece(u, 1u)));
    }
    if UNIT_PIECES > 2u {
        sums = add(sums, bytes_products(job, unit_quants(unit, u, 2u), unit_scale(unit, u, 2u), unit_piece(u, 2u)));
        sums = add(sums, bytes_products(job, unit_quants(unit, u, 3u), unit_scale(unit, u, 3u), unit_piece(u, 3u)));
    }
    return sums;
}
