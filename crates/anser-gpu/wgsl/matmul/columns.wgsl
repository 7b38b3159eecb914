// One number per token of a mat-vec kernel.

override COLUMNS: u32; // tokens that the kernel computes at once: 1, 2, 4 or 8

const GRID_WIDTH: u32 = 32768u; // workgroups along x before y is used; a dimension may have 65535

struct Columns {
    a: vec4<f32>, // tokens 0..4
    b: vec4<f32>, // tokens 4..8
}

fn add(s: Columns, t: Columns) -> Columns {
    return Columns(s.a + t.a, s.b + t.b);
}

// The token of a column; columns beyond the last token repeat it.
fn column_token(column: u32) -> u32 {
    return min(column, n_tokens() - 1u);
}
