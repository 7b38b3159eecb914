// out = the embeddings of the tokens that the sequences read next; one invocation per piece of a row. The table may be
// in several buffers by ranges of rows: a dispatch writes what its range holds. Follows weight/*.wgsl and
// sample/drawn.wgsl.

override FIRST_ROW: u32; // of the range
override N_ROWS: u32;

@group(0) @binding(1) var<storage, read> drawn: array<DrawnToken>;  // [T]
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [T, C]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let piece = id.x;
    let row = drawn[id.y].token - FIRST_ROW; // wraps for a row before the range, and for NO_TOKEN
    if piece >= N_PIECES || row >= N_ROWS {
        return;
    }
    let found = piece_unit(piece);
    let values = unit_values(load_unit(row * ROW_LEN, found.u), found.u, found.p);
    let start = id.y * N_COLS + 16u * piece;
    let n = min(16u, N_COLS - 16u * piece);
    for (var i = 0u; i < 4u; i++) {
        if i < n {
            out[start + i] = values.a[i];
        }
        if i + 4u < n {
            out[start + 4u + i] = values.b[i];
        }
        if i + 8u < n {
            out[start + 8u + i] = values.c[i];
        }
        if i + 12u < n {
            out[start + 12u + i] = values.d[i];
        }
    }
}
