// The results of up to six mixes of a row with the one before, in one buffer: each as floats, in bytes, or both. A workgroup has
// COLUMNS columns of all N_MIXES mixes of a row. Follows bytes_out.wgsl and place.wgsl; the kernel's argument MIXES, six places, says
// where the results are.

override N_MIXES: u32; // at most 6
override N_STAGED_PIECES: u32 = N_MIXES * (COLUMNS / 16u);
override N_STAGED: u32 = PITCH * N_STAGED_PIECES;

const PITCH: u32 = 17u; // from one staged piece to the next: a number of banks that spreads them over the memory

@group(0) @binding(5) var<storage, read_write> out: array<u32>;

var<workgroup> staged: array<f32, N_STAGED>; // results [N_MIXES, COLUMNS / 16, PITCH], before they become bytes

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

// Column `local` of the workgroup's columns of mix `m`, which is element `at` of the result; nothing is written if it is not valid.
fn store_mix(m: u32, local: u32, at: u32, valid: bool, value: f32) {
    staged[PITCH * ((m * COLUMNS + local) / 16u) + local % 16u] = value;
    let place = place_of(m);
    if valid && place.floats != NOTHING {
        out[place.floats + at] = bitcast<u32>(value);
    }
}

// After all results of the workgroup are stored: writes them in bytes, too, where they are wanted so. Its columns begin at column
// `first` of the row that begins at element `row`. The whole workgroup must call it.
fn store_mixes_in_bytes(row: u32, first: u32, index: u32) {
    workgroupBarrier();
    for (var p = index; p < N_STAGED_PIECES; p += WORKGROUP) {
        let place = place_of(p / (COLUMNS / 16u));
        let column = first + p % (COLUMNS / 16u) * 16u;
        if place.bytes != NOTHING && column < N_COLS {
            let at = PITCH * p;
            let bytes = to_bytes(staged4(at), staged4(at + 4u), staged4(at + 8u), staged4(at + 12u));
            write_bytes(place.bytes, place.scales, (row + column) / 16u, bytes);
        }
    }
}

fn staged4(at: u32) -> vec4<f32> {
    return vec4<f32>(staged[at], staged[at + 1u], staged[at + 2u], staged[at + 3u]);
}
