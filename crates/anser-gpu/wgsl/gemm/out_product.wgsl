// The sums are those of whole rows: the rest of the product follows at once. Follows gemm/out_rows.wgsl; gemm/direct.wgsl or
// gemm/indirect*.wgsl brings matrices to memory.

const TAKES_ALL_MATRICES: bool = false;

// Subgroups that stage a matrix at the same time; the others wait for their turn.
const MAX_STAGING: u32 = 4u;
override N_SUBGROUPS: u32 = SUBGROUPS_M * SUBGROUPS_N;
override N_STAGING: u32 = 256u * min(N_SUBGROUPS, MAX_STAGING);
var<workgroup> staging: array<f32, N_STAGING>; // [up to MAX_STAGING, 16 tokens, 16 rows]

// Where the `i`, `j`-th matrix starts in out and residual.
fn corner(place: Corner, i: u32, j: u32) -> u32 {
    return out_index(place.row + 16u * i, place.token + 16u * j);
}

// Writes a matrix that something still happens to, or that reaches beyond the end: its elements' places are known in
// workgroup memory only. The whole workgroup must call it.
fn finish(sums: MatC, place: Corner, i: u32, j: u32) {
    let first = place.subgroup % MAX_STAGING * 256u;
    for (var turn = 0u; turn < (N_SUBGROUPS + MAX_STAGING - 1u) / MAX_STAGING; turn++) {
        if place.subgroup / MAX_STAGING == turn {
            stage(sums, first, place.lane);
        }
        workgroupBarrier();
        if place.subgroup / MAX_STAGING == turn {
            write_staged(place, first, i, j);
        }
        workgroupBarrier();
    }
}

fn write_staged(place: Corner, first: u32, i: u32, j: u32) {
    for (var e = 4u * place.lane; e < 256u; e += 4u * SUBGROUP_LEN) {
        let t = place.token + 16u * j + e / 16u;
        if t < n_tokens() {
            let at = first + e;
            let sums = vec4<f32>(staging[at], staging[at + 1u], staging[at + 2u], staging[at + 3u]);
            finish_rows(place.row + 16u * i + e % 16u, t, sums);
        }
    }
}
