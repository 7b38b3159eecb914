// Weights as they are stored, decoded on their way to workgroup memory. A step covers four pieces of 16 columns; a thread
// has every other one of a row, which many types keep in one unit. A weight that is
// too large for a half becomes infinite, and so do its sums, which gemm/out_product.wgsl and gemm/sum.wgsl find. Follows weight/*.wgsl.

override UNIT_ROWS: u32 = WORKGROUP / 2u;       // rows from one of a thread's to the next
override SHARES_M: u32 = TILE_M / UNIT_ROWS; // rows that a thread has of a step: 1 or 2

struct Units {
    u0: Unit,
    u1: Unit,
    u2: Unit,
    u3: Unit,
}

// The thread's rows.
fn weight_rows(first: u32, local: u32) -> vec4<u32> {
    let row = first + local / 2u;
    return min(vec4<u32>(row, row + UNIT_ROWS, row, row), vec4<u32>(target_rows.n_rows - 1u));
}

fn fetch_weights(rows: vec4<u32>, s: u32, local: u32) -> Units {
    let piece = 4u * s + local % 2u;
    let a = piece_unit(min(piece, N_PIECES - 1u)).u;
    let b = piece_unit(min(piece + 2u, N_PIECES - 1u)).u;
    var units = Units();
    units.u0 = load_unit(ROW_LEN * rows.x, a);
    units.u1 = load_unit(ROW_LEN * rows.x, b);
    if SHARES_M > 1u {
        units.u2 = load_unit(ROW_LEN * rows.y, a);
        units.u3 = load_unit(ROW_LEN * rows.y, b);
    }
    return units;
}

// Beyond the last piece there are zeros.
fn put_weights(unit: Unit, piece: u32, at: u32) {
    let i = piece_unit(piece);
    var values = unit_values(unit, i.u, i.p);
    if piece >= N_PIECES {
        values = Piece();
    }
    weight_tile[at] = vec4<f16>(values.a);
    weight_tile[at + 1u] = vec4<f16>(values.b);
    weight_tile[at + 2u] = vec4<f16>(values.c);
    weight_tile[at + 3u] = vec4<f16>(values.d);
}

fn commit_weights(units: Units, s: u32, local: u32) {
    let piece = 4u * s + local % 2u;
    let at = local / 2u * PITCH + 4u * (local % 2u);
    put_weights(units.u0, piece, at);
    put_weights(units.u1, piece + 2u, at + 8u);
    if SHARES_M > 1u {
        put_weights(units.u2, piece, at + UNIT_ROWS * PITCH);
        put_weights(units.u3, piece + 2u, at + UNIT_ROWS * PITCH + 8u);
    }
}
