// The results of a token shift in one buffer. A workgroup writes WORKGROUP columns. Follows mix_results.wgsl. The kernel's argument
// KEPT has the places of xx itself and of the previous token's xx, which are wanted as floats or not at all.

override COLUMNS: u32 = WORKGROUP;

alias Mixes = array<f32, 6>;

fn load_mixes(c: u32) -> Mixes {
    var mixes: Mixes;
    for (var m = 0u; m < N_MIXES; m++) {
        mixes[m] = mix_of(m, c);
    }
    return mixes;
}

// The whole workgroup must call it.
fn write_mixes(row: u32, c: u32, local: u32, valid: bool, mixes: Mixes, current: f32, previous: f32) {
    let difference = previous - current;
    var m_of = mixes;
    for (var m = 0u; m < N_MIXES; m++) {
        store_mix(m, local, row + c, valid, current + difference * m_of[m]);
    }
    if valid && KEPT[0].floats != NOTHING {
        out[KEPT[0].floats + row + c] = bitcast<u32>(current);
    }
    if valid && KEPT[1].floats != NOTHING {
        out[KEPT[1].floats + row + c] = bitcast<u32>(previous);
    }
    store_mixes_in_bytes(row, c - local, local);
}
