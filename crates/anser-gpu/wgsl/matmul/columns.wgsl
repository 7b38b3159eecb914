// What a mat-vec kernel computes at once: ROWS_EACH rows of weights with the inputs of COLUMNS tokens. A weight is read once
// for all columns, an input once for all rows.

override COLUMNS: u32;   // 1, 2, 4 or 8
override ROWS_EACH: u32; // 1, 2 or 4

const MAX_COLUMNS: u32 = 8u;
const MAX_ROWS_EACH: u32 = 4u;

const GRID_WIDTH: u32 = 32768u; // workgroups along x before y is used; a dimension may have 65535

// A thread's part of the products. Whoever indexes it does so by numbers that the compiler knows, columns one by one and
// rows in short loops: then they stay in registers.
var<private> sums: array<array<f32, MAX_COLUMNS>, MAX_ROWS_EACH>; // [ROWS_EACH, COLUMNS]

// The token of a column; columns beyond the last token repeat it.
fn column_token(column: u32) -> u32 {
    return min(column, n_tokens() - 1u);
}

// Row `i` of those that start at `first`; rows beyond the last one repeat it.
fn row_of(job: Job, first: u32, i: u32) -> u32 {
    return min(first + i, job.n_rows - 1u);
}
