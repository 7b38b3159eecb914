// For kernels whose products have no quantized weights.

fn add_quantized_rows(job: Job, first: u32, lane: u32) {}
