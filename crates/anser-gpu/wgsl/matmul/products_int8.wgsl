// Products of quantized weights with activations in 8 bits (see quantize.wgsl), exact in integers within a piece.
//
// With weights s·q − o and activations e·n, a piece contributes s·e·Σ q·n − o·e·Σ n.

@group(0) @binding(1) var<storage, read> quants: array<vec4<u32>>; // [T, N_PIECES], 16 signed bytes n each
@group(0) @binding(7) var<storage, read> scales: array<vec2<f32>>; // [T, N_PIECES], e and e·Σ n

fn dot_piece(q: vec4<u32>, scale: vec2<f32>, i: u32) -> f32 {
    let n = quants[i];
    let sum = dot4I8Packed(q.x, n.x) + dot4I8Packed(q.y, n.y) + dot4I8Packed(q.z, n.z) + dot4I8Packed(q.w, n.w);
    let e = scales[i];
    return scale.x * e.x * f32(sum) - scale.y * e.y;
}

fn piece_products(q: vec4<u32>, scale: vec2<f32>, piece: u32) -> Columns {
    var sums = Columns();
    sums.a.x = dot_piece(q, scale, column_token(0u) * N_PIECES + piece);
    if COLUMNS > 1u {
        sums.a.y = dot_piece(q, scale, column_token(1u) * N_PIECES + piece);
    }
    if COLUMNS > 2u {
        sums.a.z = dot_piece(q, scale, column_token(2u) * N_PIECES + piece);
        sums.a.w = dot_piece(q, scale, column_token(3u) * N_PIECES + piece);
    }
    if COLUMNS > 4u {
        sums.b.x = dot_piece(q, scale, column_token(4u) * N_PIECES + piece);
        sums.b.y = dot_piece(q, scale, column_token(5u) * N_PIECES + piece);
        sums.b.z = dot_piece(q, scale, column_token(6u) * N_PIECES + piece);
        sums.b.w = dot_piece(q, scale, column_token(7u) * N_PIECES + piece);
    }
    return sums;
}

// Products of unit `u` of a row with the input of every column.
fn unit_products(row: u32, u: u32) -> Columns {
    let unit = load_unit(row, u);
    var sums = piece_products(unit_quants(unit, u, 0u), unit_scale(unit, u, 0u), unit_piece(u, 0u));
    if UNIT_PIECES > 1u {
        sums = add(sums, piece_products(unit_quants(unit, u, 1u), unit_scale(unit, u, 1u), unit_piece(u, 1u)));
    }
    if UNIT_PIECES > 2u {
        sums = add(sums, piece_products(unit_quants(unit, u, 2u), unit_scale(unit, u, 2u), unit_piece(u, 2u)));
        sums = add(sums, piece_products(unit_quants(unit, u, 3u), unit_scale(unit, u, 3u), unit_piece(u, 3u)));
    }
    return sums;
}
