// Weights in halves, rows padded with zeros to whole pieces of 16 columns. Follows weight/piece.wgsl.

@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>; // [n_rows, ROW_CHUNKS]

override SHARES_M: u32 = TILE_M * STEP_CHUNKS / WORKGROUP; // chunks that a thread has of a step, 1, 2, 4 or 5

fn weight_rows(first: u32, local: u32) -> Starts {
    return share_rows(first, target_rows.n_rows, local);
}

fn fetch_weights(starts: Starts, s: u32, local: u32) -> Chunks {
    let at = chunk_at(s, local);
    let rows = starts.first;
    var chunks = Chunks();
    chunks.c0 = weights[rows.x + at];
    if SHARES_M > 1u {
        chunks.c1 = weights[rows.y + at];
    }
    if SHARES_M > 2u {
        chunks.c2 = weights[rows.z + at];
        chunks.c3 = weights[rows.w + at];
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

fn commit_weights(fetched: Chunks, s: u32, local: u32) {
    var w = fetched;
    if is_beyond(s, local) {
        w = Chunks();
    }
    let at = local / STEP_CHUNKS * PITCH + 2u * (local % STEP_CHUNKS);
    put_weights(w.c0, at);
    if SHARES_M > 1u {
        put_weights(w.c1, at + SHARE_ROWS * PITCH);
    }
    if SHARES_M > 2u {
        put_weights(w.c2, at + 2u * SHARE_ROWS * PITCH);
        put_weights(w.c3, at + 3u * SHARE_ROWS * PITCH);
    }
    if SHARES_M > 4u {
        put_weights(w.c4, at + 4u * SHARE_ROWS * PITCH);
    }
}
