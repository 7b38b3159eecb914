// Products of a row of quantized weights. Follows a file that defines `unit_products`.

// Of a thread's units with the input of every column.
fn quantized_products(job: Job, row: u32, lane: u32) -> Columns {
    let start = job.weights + row * ROW_LEN;
    var sums = Columns();
    for (var i = 0u; i < N_UNITS / N_LANES; i++) {
        sums = add(sums, unit_products(job, start, i * N_LANES + lane));
    }
    if N_UNITS % N_LANES != 0u {
        let u = N_UNITS / N_LANES * N_LANES + lane;
        if u < N_UNITS {
            sums = add(sums, unit_products(job, start, u));
        }
    }
    return sums;
}
