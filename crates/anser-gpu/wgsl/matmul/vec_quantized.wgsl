// Products of rows of quantized weights. Follows a file that defines `add_unit`.

// Adds the products of a thread's units of the rows from `first`.
fn add_quantized_rows(job: Job, first: u32, lane: u32) {
    for (var i = 0u; i < N_UNITS / N_LANES; i++) {
        add_unit(job, first, i * N_LANES + lane);
    }
    if N_UNITS % N_LANES != 0u {
        let u = N_UNITS / N_LANES * N_LANES + lane;
        if u < N_UNITS {
            add_unit(job, first, u);
        }
    }
}
