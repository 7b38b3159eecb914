// Products of units of quantized weights with activations, in f32. Follows products_f32.wgsl.

// Products of unit `u` of a row with the input of every column.
fn unit_products(job: Job, unit: Unit, u: u32) -> Columns {
    var sums = piece_products(job, unit_values(unit, u, 0u), unit_piece(u, 0u));
    if UNIT_PIECES > 1u {
        sums = add(sums, piece_products(job, unit_values(unit, u, 1u), unit_piece(u, 1u)));
    }
    if UNIT_PIECES > 2u {
        sums = add(sums, piece_products(job, unit_values(unit, u, 2u), unit_piece(u, 2u)));
        sums = add(sums, piece_products(job, unit_values(unit, u, 3u), unit_piece(u, 3u)));
    }
    return sums;
}
