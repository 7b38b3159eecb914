// The results of a token shift in one buffer: each as floats, in bytes, or both. A workgroup writes WORKGROUP columns.
// Follows bytes_out.wgsl and place.wgsl. The arguments of the kernel say where results are: MIXES, six places, and KEPT, the
// places of xx itself and of the previous token's xx, which are wanted as floats or not at all.

override N_MIXES: u32; // at most 6
override N_STAGED_PIECES: u32 = N_MIXES * (WORKGROUP / 16u);
override N_STAGED: u32 = PITCH * N_STAGED_PIECES;

const PITCH: u32 = 17u; // from one staged piece to the next: a number of banks that spreads them over the memory

@group(0) @binding(5) var<storage, read_write> out: array<u32>;

// Where the result of a mix is in out, see place.wgsl.
fn place_of(m: u32) -> Place {
    switch m {
        case 0u: {
            return MIXES[0];
        }
        case 1u: {
            return MIXES[1];
        }
        case 2u: {
            return MIXES[2];
        }
        case 3u: {
            return MIXES[3];
        }
        case 4u: {
            return MIXES[4];
        }
        default: {
            return MIXES[5];
        }
    }
}

alias Mixes = array<f32, 6>;

var<workgroup> staged: array<f32, N_STAGED>; // [N_MIXES, WORKGROUP / 16, PITCH]

fn load_mixes(c: u32) -> Mixes {
    var mixes: Mixes;
    for (var m = 0u; m < N_MIXES; m++) {
        mixes[m] = mix_of(m, c);
    }
    return mixes;
}

fn staged4(at: u32) -> vec4<f32> {
    return vec4<f32>(staged[at], staged[at + 1u], staged[at + 2u], staged[at + 3u]);
}

// The whole workgroup must call it.
fn write_mixes(row: u32, c: u32, local: u32, valid: bool, mixes: Mixes, current: f32, previous: f32) {
    let difference = previous - current;
    var m_of = mixes;
    for (var m = 0u; m < N_MIXES; m++) {
        let value = current + difference * m_of[m];
        staged[PITCH * ((m * WORKGROUP + local) / 16u) + local % 16u] = value;
        let place = place_of(m);
        if valid && place.floats != NOTHING {
            out[place.floats + row + c] = bitcast<u32>(value);
        }
    }
    if valid && KEPT[0].floats != NOTHING {
        out[KEPT[0].floats + row + c] = bitcast<u32>(current);
    }
    if valid && KEPT[1].floats != NOTHING {
        out[KEPT[1].floats + row + c] = bitcast<u32>(previous);
    }
    workgroupBarrier();
    for (var p = local; p < N_STAGED_PIECES; p += WORKGROUP) {
        let place = place_of(p / (WORKGROUP / 16u));
        let first = p % (WORKGROUP / 16u) * 16u;
        let column = c - local + first;
        if place.bytes != NOTHING && column < N_COLS {
            let at = PITCH * p;
            let bytes = to_bytes(staged4(at), staged4(at + 4u), staged4(at + 8u), staged4(at + 12u));
            let to = (row + column) / 16u;
            write_bytes(place.bytes, place.scales, to, bytes);
        }
    }
}
