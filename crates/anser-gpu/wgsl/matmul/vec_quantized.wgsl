// Products of a row of quantized weights. Follows a file that defines `unit_products`.

alias FirstUnit = Unit;

// A thread's first unit, or another one if it has none.
fn first_unit(job: Job, row: u32, lane: u32) -> FirstUnit {
    return load_unit(job.weights + row * ROW_LEN, min(lane, N_UNITS - 1u));
}

// Of a thread's units, of which the first is there, with the input of every column.
fn quantized_products(job: Job, row: u32, lane: u32, first: FirstUnit) -> Columns {
    let start = job.weights + row * ROW_LEN;
    var sums = Columns();
    if N_UNITS >= N_LANES || lane < N_UNITS {
        sums = unit_products(job, first, lane);
    }
    for (var i = 1u; i < N_UNITS / N_LANES; i++) {
        let u = i * N_LANES + lane;
        sums = add(sums, unit_products(job, load_unit(start, u), u));
    }
    if N_UNITS > N_LANES && N_UNITS % N_LANES != 0u {
        let u = N_UNITS / N_LANES * N_LANES + lane;
        if u < N_UNITS {
            sums = add(sums, unit_products(job, load_unit(start, u), u));
        }
    }
    return sums;
}
