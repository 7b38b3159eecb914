// The inputs of RWKV-6's projections: mixes of a token's row and the row before, by shares that depend on the token:
//     share_i = μ_i + W_i z_i,  x_i = x + (x_prev − x) ∘ share_i
// Bound by memory: every W_i `[C, RANK]` is read once for each token. A workgroup has COLUMNS columns of all N_MIXES mixes of a
// token; a thread computes one column of one mix. Follows weight/low_rank.wgsl (N_COLS = C) and mix_results.wgsl.
//
// Ladder (H200, RWKV-6 1.6B, one token): five mixes and five products in kernels of their own, with the projections apart that read
// them, 483 tokens/s; this kernel, with norm and shift and the head in one kernel each, 728 tokens/s.

override COLUMNS: u32; // a multiple of 16

override WORKGROUP: u32 = N_MIXES * COLUMNS;

@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>; // the layer's
@group(0) @binding(1) var<storage, read> values: array<vec4<f32>>;  // all z_i
@group(0) @binding(2) var<storage, read> shares: array<f32>;        // the layer's vectors
@group(0) @binding(3) var<storage, read> x: array<f32>;             // [T, C]
@group(0) @binding(4) var<storage, read> x_prev: array<f32>;        // [T, C]

// Where the operands of a mix lie: the kernel's argument PAIRS.
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
    store_mix(m, index % COLUMNS, at, c < N_COLS, current + difference * (share + sum));
    store_mixes_in_bytes(t * N_COLS, first, index);
}
