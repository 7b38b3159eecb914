// out = epilogue(x · weightᵀ) for up to COLUMNS tokens: every weight is read once and used for all of them.
//
// N_LANES neighbouring threads compute a row, each taking every N_LANES-th unit of it. WORKGROUP / N_LANES rows
// make a workgroup; workgroups are numbered along x, then y.

override N_WHOLE_ROUNDS: u32 = N_UNITS / N_LANES; // rounds in which every thread has a unit

fn run(workgroup: vec3<u32>, local: u32) {
    let row = (workgroup.x + GRID_WIDTH * workgroup.y) * (WORKGROUP / N_LANES) + local / N_LANES;
    let lane = local % N_LANES;
    // Threads beyond the last row repeat it and write nothing: the sums need every thread.
    let valid = row < target_rows.n_rows;
    let weight_row = min(row, target_rows.n_rows - 1u);
    // Fetched early, so that nothing has to be waited for at the end.
    let bias = load_bias(weight_row);
    let residual = load_residuals(weight_row);

    var sums = Columns();
    for (var i = 0u; i < N_WHOLE_ROUNDS; i++) {
        sums = add(sums, unit_products(weight_row, i * N_LANES + lane));
    }
    if N_UNITS % N_LANES != 0u {
        let u = N_WHOLE_ROUNDS * N_LANES + lane;
        if u < N_UNITS {
            sums = add(sums, unit_products(weight_row, u));
        }
    }

    sums.a.x = lanes_sum(sums.a.x, local);
    if COLUMNS > 1u {
        sums.a.y = lanes_sum(sums.a.y, local);
    }
    if COLUMNS > 2u {
        sums.a.z = lanes_sum(sums.a.z, local);
        sums.a.w = lanes_sum(sums.a.w, local);
    }
    if COLUMNS > 4u {
        sums.b.x = lanes_sum(sums.b.x, local);
        sums.b.y = lanes_sum(sums.b.y, local);
        sums.b.z = lanes_sum(sums.b.z, local);
        sums.b.w = lanes_sum(sums.b.w, local);
    }
    if lane == 0u && valid {
        store(row, 0u, sums.a.x, bias, residual.a.x);
        if COLUMNS > 1u {
            store(row, 1u, sums.a.y, bias, residual.a.y);
        }
        if COLUMNS > 2u {
            store(row, 2u, sums.a.z, bias, residual.a.z);
            store(row, 3u, sums.a.w, bias, residual.a.w);
        }
        if COLUMNS > 4u {
            store(row, 4u, sums.b.x, bias, residual.b.x);
            store(row, 5u, sums.b.y, bias, residual.b.y);
            store(row, 6u, sums.b.z, bias, residual.b.z);
            store(row, 7u, sums.b.w, bias, residual.b.w);
        }
    }
}

fn load_residuals(row: u32) -> Columns {
    var values = Columns();
    values.a.x = load_residual(row, column_token(0u));
    if COLUMNS > 1u {
        values.a.y = load_residual(row, column_token(1u));
    }
    if COLUMNS > 2u {
        values.a.z = load_residual(row, column_token(2u));
        values.a.w = load_residual(row, column_token(3u));
    }
    if COLUMNS > 4u {
        values.b.x = load_residual(row, column_token(4u));
        values.b.y = load_residual(row, column_token(5u));
        values.b.z = load_residual(row, column_token(6u));
        values.b.w = load_residual(row, column_token(7u));
    }
    return values;
}

fn store(row: u32, token: u32, sum: f32, bias: f32, residual: f32) {
    if token < n_tokens() {
        out[out_index(row, token)] = residual + activate(sum + bias);
    }
}
