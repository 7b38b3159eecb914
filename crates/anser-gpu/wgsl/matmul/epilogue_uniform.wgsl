// What follows a product is told with its rows: one kernel for all products.

fn epilogue() -> u32 {
    return target_rows.epilogue;
}
