// For kernels whose threads have one row each.

fn quantized_pair(job: Job, row: u32, other: u32, lane: u32) -> ColumnsPair {
    return ColumnsPair();
}
