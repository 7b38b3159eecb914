// The inputs of RWKV-6's projections: mixes of a token's row and the row before, by shares that depend on the token:
//     share_i = μ_i + W_i z_i,  x_i = x + (x_prev − x) ∘ share_i
// Bound by memory: every W_i `[C, RANK]` is read once for each token. A workgroup has COLUMNS columns of all N_MIXES mixes of a
// token; a thread computes one column of one mix. Follows weight/low_rank.wgsl (N_COLS = C), bytes.wgsl, bytes_out.wgsl and
// place.wgsl.

override COLUMNS: u32; // a multiple of 16
override N_MIXES: u32; // at most 5

override WORKGROUP: u32 = N_MIXES * COLUMNS;
override N_STAGED: u32 = PITCH * WORKGROUP / 16u;

const PITCH: u32 = 17u; // from one staged piece to the next: a number of banks that spreads them over the memory

@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>; // the layer's
@group(0) @binding(1) var<storage, read> z: array<vec4<f32>>;       // all z_i
@group(0) @binding(2) var<storage, read> shares: array<f32>;        // the layer's vectors
@group(0) @binding(3) var<storage, read> x: array<f32>;             // [T, C]
@group(0) @binding(4) var<storage, read> x_prev: array<f32>;        // [T, C]
@group(0) @binding(5) var<storage, read_write> out: array<u32>;     // all x_i

// Where the operands of a mix lie: the kernel's argument PAIRS. Its argument MIXES has the places of the results.
struct Pair {
    weights: u32, // first vec4 of W_i
    input: u32,   // first vec4 of z_i [T, RANK / 4]
    share: u32,   // first number of μ_i
}

fn pair_of(m: u32) -> Pair {
    switch m {
        case 0u: {
            return PAIRS[0];
        }
        case 1u: {
            return PAIRS[1];
        }
        case 2u: {
            return PAIRS[2];
        }
        case 3u: {
            return PAIRS[3];
        }
        default: {
            return PAIRS[4];
        }
    }
}

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
        default: {
            return MIXES[4];
        }
    }
}

var<workgroup> staged: array<f32, N_STAGED>; // results [N_MIXES, COLUMNS / 16, PITCH], before they become bytes

fn staged4(at: u32) -> vec4<f32> {
    return vec4<f32>(staged[at], staged[at + 1u], staged[at + 2u], staged[at + 3u]);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let m = index / COLUMNS;
    let first = workgroup.x * COLUMNS;
    let c = first + index % COLUMNS;
    let t = workgroup.y;
    let pair = pair_of(m);
    // Columns beyond the last one compute that one again.
    let column = min(c, N_COLS - 1u);
    let at = t * N_COLS + column;
    let current = x[at];
    let difference = x_prev[at] - current;
    let share = shares[pair.share + column];
    var sum = 0.0;
    for (var p = 0u; p < RANK_PIECES; p++) {
        sum += low_rank_product(pair.weights, column, pair.input + t * (RANK / 4u), p);
    }
    let value = current + difference * (share + sum);

    let place = place_of(m);
    if c < N_COLS && place.floats != NOTHING {
        out[place.floats + at] = bitcast<u32>(value);
    }
    staged[PITCH * (index / 16u) + index % 16u] = value;
    workgroupBarrier();
    if index < WORKGROUP / 16u {
        let place = place_of(index / (COLUMNS / 16u));
        let piece_column = first + index % (COLUMNS / 16u) * 16u;
        if place.bytes != NOTHING && piece_column < N_COLS {
            let at_piece = PITCH * index;
            let bytes = to_bytes(staged4(at_piece), staged4(at_piece + 4u), staged4(at_piece + 8u), staged4(at_piece + 12u));
            write_bytes(place.bytes, place.scales, (t * N_COLS + piece_column) / 16u, bytes);
        }
    }
}
