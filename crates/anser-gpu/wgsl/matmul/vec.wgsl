// Products for up to COLUMNS tokens: every weight is read once and used for all of them.
//
// N_LANES neighbouring threads compute a row, each taking every N_LANES-th unit of it. WORKGROUP / N_LANES rows make a
// workgroup; workgroups are numbered along x, then y, and each computes rows of one job. Its first weights are asked for before
// its input, which may have to be made. Follows jobs.wgsl, columns.wgsl, results.wgsl, lanes/*.wgsl, vec_floats.wgsl,
// vec_*quantized.wgsl, and vec_input_*.wgsl with operands.wgsl or shift.wgsl.

override HAS_FLOATS: bool;    // whether any job has float weights
override HAS_QUANTIZED: bool; // whether any job has quantized ones
override HAS_GATE: bool;      // whether every job has a gate, for one token

fn run(workgroup: vec3<u32>, index: u32) {
    let number = workgroup.x + GRID_WIDTH * workgroup.y;
    let job = job_of(number);
    let first = (number - job.first_workgroup) * ROWS;
    let row = first + index / N_LANES;
    let lane = index % N_LANES;
    // Threads beyond the last row repeat it and write nothing: the sums need every thread.
    let valid = row < job.n_rows;
    let weight_row = min(row, job.n_rows - 1u);
    // Fetched early, so that nothing has to be waited for at the end.
    let bias = load_bias(job, weight_row);
    let residuals = load_residuals(job, weight_row);
    var gate = 1.0;
    if HAS_GATE {
        gate = load_gate(job, weight_row);
    }

    var sums: Columns;
    if HAS_QUANTIZED && (!HAS_FLOATS || job.kind == QUANTIZED) {
        let unit = first_unit(job, weight_row, lane);
        make_input(job, number, index);
        sums = quantized_products(job, weight_row, lane, unit);
    } else {
        let floats = first_floats(job, weight_row, lane);
        make_input(job, number, index);
        sums = float_products(job, weight_row, lane, floats);
    }

    sums.a.x = lanes_sum(sums.a.x, index);
    if COLUMNS > 1u {
        sums.a.y = lanes_sum(sums.a.y, index);
    }
    if COLUMNS > 2u {
        sums.a.z = lanes_sum(sums.a.z, index);
        sums.a.w = lanes_sum(sums.a.w, index);
    }
    if COLUMNS > 4u {
        sums.b.x = lanes_sum(sums.b.x, index);
        sums.b.y = lanes_sum(sums.b.y, index);
        sums.b.z = lanes_sum(sums.b.z, index);
        sums.b.w = lanes_sum(sums.b.w, index);
    }
    if lane == 0u {
        store(job, row, 0u, valid, sums.a.x, bias, residuals.a.x, gate);
        if COLUMNS > 1u {
            store(job, row, 1u, valid, sums.a.y, bias, residuals.a.y, 1.0);
        }
        if COLUMNS > 2u {
            store(job, row, 2u, valid, sums.a.z, bias, residuals.a.z, 1.0);
            store(job, row, 3u, valid, sums.a.w, bias, residuals.a.w, 1.0);
        }
        if COLUMNS > 4u {
            store(job, row, 4u, valid, sums.b.x, bias, residuals.b.x, 1.0);
            store(job, row, 5u, valid, sums.b.y, bias, residuals.b.y, 1.0);
            store(job, row, 6u, valid, sums.b.z, bias, residuals.b.z, 1.0);
            store(job, row, 7u, valid, sums.b.w, bias, residuals.b.w, 1.0);
        }
    }
    store_all_bytes(job, first, index);
}

fn load_residuals(job: Job, row: u32) -> Columns {
    var values = Columns();
    values.a.x = load_residual(job, row, column_token(0u));
    if COLUMNS > 1u {
        values.a.y = load_residual(job, row, column_token(1u));
    }
    if COLUMNS > 2u {
        values.a.z = load_residual(job, row, column_token(2u));
        values.a.w = load_residual(job, row, column_token(3u));
    }
    if COLUMNS > 4u {
        values.b.x = load_residual(job, row, column_token(4u));
        values.b.y = load_residual(job, row, column_token(5u));
        values.b.z = load_residual(job, row, column_token(6u));
        values.b.w = load_residual(job, row, column_token(7u));
    }
    return values;
}
