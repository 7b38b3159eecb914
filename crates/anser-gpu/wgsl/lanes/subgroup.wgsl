// Entry point and sums over groups of N_LANES neighbouring invocations, by shuffles within a subgroup.
//
// A kernel file that follows defines `run(workgroup, index)`; `index` is 0..WORKGROUP, and the invocations of one group
// have the same index / N_LANES. Subgroups must be full, and their size a multiple of N_LANES; or all have SUBGROUP_LEN
// invocations, and N_LANES is a multiple of that.

override WORKGROUP: u32;
override N_LANES: u32; // a power of two
override SUBGROUP_LEN: u32 = 128u;

override SHUFFLED: u32 = min(N_LANES, SUBGROUP_LEN); // invocations that sum by shuffles
override N_LANE_SUMS: u32 = select(1u, 2u * WORKGROUP / SHUFFLED, N_LANES > SHUFFLED);

// Sums of subgroups. Calls alternate between two halves: then one barrier a call is enough, since no thread still reads
// the half written to.
var<workgroup> lane_sums: array<f32, N_LANE_SUMS>;
var<private> lane_sums_half: u32 = 0u;

var<private> subgroup_number: u32;
var<private> subgroup_len: u32;
var<private> subgroup_lane: u32;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) subgroup_size: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    subgroup_number = subgroup;
    subgroup_len = subgroup_size;
    subgroup_lane = lane;
    run(workgroup, subgroup * subgroup_size + lane);
}

// Sum of `x` over the group, in each of its invocations. The whole workgroup must call it.
fn lanes_sum(x: f32, index: u32) -> f32 {
    var sum = x;
    for (var distance = 1u; distance < SHUFFLED; distance *= 2u) {
        sum += subgroupShuffleXor(sum, distance);
    }
    if N_LANES > SHUFFLED {
        lane_sums_half = WORKGROUP / SHUFFLED - lane_sums_half;
        if index % SHUFFLED == 0u {
            lane_sums[lane_sums_half + index / SHUFFLED] = sum;
        }
        workgroupBarrier();
        let first = lane_sums_half + index / N_LANES * (N_LANES / SHUFFLED);
        sum = 0.0;
        for (var i = 0u; i < N_LANES / SHUFFLED; i++) {
            sum += lane_sums[first + i];
        }
    }
    return sum;
}
