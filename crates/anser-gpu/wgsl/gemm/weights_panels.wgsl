// Weights in halves, in panels of 16 rows, column after column: a step's tile is columns of rows. Follows weight/piece.wgsl.

@group(0) @binding(0) var<storage, read> weights: array<Chunk>; // [n_rows / 16, N_COLS, 2], eight rows in a chunk

override SHARES_M: u32 = TILE_M * STEP_CHUNKS / WORKGROUP; // chunks that a thread has of a step, 1, 2 or 4
override PANEL_CHUNKS: u32 = 2u * K_STEP;                  // chunks of a panel in a step

// From a tile's column to the next: two vec4s more than it has, to spread the columns over the memory's banks. It takes no more
// memory than a tile by rows, as tiles have at least as many rows as columns.
override COLUMN_PITCH: u32 = TILE_M / 4u + 2u;

fn share_chunks(local: u32) -> vec4<u32> {
    return vec4<u32>(local, local + WORKGROUP, local + 2u * WORKGROUP, local + 3u * WORKGROUP);
}

// Where a thread's chunks are in the first step.
fn weight_rows(first: u32, local: u32) -> vec4<u32> {
    let chunks = share_chunks(local);
    let panels = min(first / 16u + chunks / PANEL_CHUNKS, vec4<u32>(target_rows.n_rows / 16u - 1u));
    return 2u * N_COLS * panels + chunks % PANEL_CHUNKS;
}

fn fetch_weights(starts: vec4<u32>, s: u32, local: u32) -> Chunks {
    let at = s * PANEL_CHUNKS;
    var chunks = Chunks();
    chunks.c0 = weights[starts.x + at];
    if SHARES_M > 1u {
        chunks.c1 = weights[starts.y + at];
    }
    if SHARES_M > 2u {
        chunks.c2 = weights[starts.z + at];
        chunks.c3 = weights[starts.w + at];
    }
    return chunks;
}

fn put_weights(chunk: Chunk, at: u32) {
    weight_tile[at] = chunk.a;
    weight_tile[at + 1u] = chunk.b;
}

fn commit_weights(w: Chunks, s: u32, local: u32) {
    let chunks = share_chunks(local);
    let at = chunks % PANEL_CHUNKS / 2u * COLUMN_PITCH + 4u * (chunks / PANEL_CHUNKS) + 2u * (chunks % 2u);
    put_weights(w.c0, at.x);
    if SHARES_M > 1u {
        put_weights(w.c1, at.y);
    }
    if SHARES_M > 2u {
        put_weights(w.c2, at.z);
        put_weights(w.c3, at.w);
    }
}

fn weight_matrix(row: u32, column4: u32) -> MatA {
    return load_columns(4u * column4 * COLUMN_PITCH + row / 4u, COLUMN_PITCH);
}
