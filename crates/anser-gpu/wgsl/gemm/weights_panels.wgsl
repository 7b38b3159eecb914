// Weights in halves, in panels of 16 rows, column after column: a step's tile is columns of rows. Follows weight/piece.wgsl.

@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>; // [n_rows / 16, N_COLS, 2], eight rows in a chunk

override SHARES_M: u32 = TILE_M * STEP_CHUNKS / WORKGROUP; // chunks that a thread has of a step, 1, 2, 4 or 5
override PANEL_CHUNKS: u32 = 2u * K_STEP;                  // chunks of a panel in a step

// From a tile's column to the next: two vec4s more than it has, to spread the columns over the memory's banks. It takes no more
// memory than a tile by rows, as tiles have at least as many rows as columns.
override COLUMN_PITCH: u32 = TILE_M / 4u + 2u;

fn share_chunks(local: u32) -> vec4<u32> {
    return vec4<u32>(local, local + WORKGROUP, local + 2u * WORKGROUP, local + 3u * WORKGROUP);
}

// Where a thread's chunks are in the first step.
fn weight_rows(first: u32, local: u32) -> Starts {
    let last_panel = target_rows.n_rows / 16u - 1u;
    let chunks = share_chunks(local);
    let panels = min(first / 16u + chunks / PANEL_CHUNKS, vec4<u32>(last_panel));
    let fifth = local + 4u * WORKGROUP;
    let fifth_panel = min(first / 16u + fifth / PANEL_CHUNKS, last_panel);
    return Starts(2u * N_COLS * panels + chunks % PANEL_CHUNKS, 2u * N_COLS * fifth_panel + fifth % PANEL_CHUNKS);
}

// Where a chunk lies in the tile.
fn tile_at(chunk: u32) -> u32 {
    return chunk % PANEL_CHUNKS / 2u * COLUMN_PITCH + 4u * (chunk / PANEL_CHUNKS) + 2u * (chunk % 2u);
}

fn fetch_weights(starts: Starts, s: u32, local: u32) -> Chunks {
    let at = s * PANEL_CHUNKS;
    var chunks = Chunks();
    chunks.c0 = weights[starts.first.x + at];
    if SHARES_M > 1u {
        chunks.c1 = weights[starts.first.y + at];
    }
    if SHARES_M > 2u {
        chunks.c2 = weights[starts.first.z + at];
        chunks.c3 = weights[starts.first.w + at];
    }
    if SHARES_M > 4u {
        chunks.c4 = weights[starts.fifth + at];
    }
    return chunks;
}

fn put_weights(chunk: vec4<u32>, at: u32) {
    weight_tile[at] = first_halves(chunk);
    weight_tile[at + 1u] = last_halves(chunk);
}

fn commit_weights(w: Chunks, s: u32, local: u32) {
    let chunks = share_chunks(local);
    put_weights(w.c0, tile_at(chunks.x));
    if SHARES_M > 1u {
        put_weights(w.c1, tile_at(chunks.y));
    }
    if SHARES_M > 2u {
        put_weights(w.c2, tile_at(chunks.z));
        put_weights(w.c3, tile_at(chunks.w));
    }
    if SHARES_M > 4u {
        put_weights(w.c4, tile_at(local + 4u * WORKGROUP));
    }
}

fn weight_matrix(row: u32, column4: u32) -> MatB {
    return load_columns(4u * column4 * COLUMN_PITCH + row / 4u, COLUMN_PITCH);
}
