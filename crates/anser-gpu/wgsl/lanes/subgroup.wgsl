// Entry point and sums over groups of N_LANES neighbouring invocations, by shuffles within a subgroup.
//
// A kernel file that follows defines `run(workgroup, index)`; `index` is 0..WORKGROUP, and the invocations of one group
// have the same index / N_LANES. Subgroups must be full, and their size a multiple of N_LANES.

override WORKGROUP: u32;
override N_LANES: u32; // a power of two

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) subgroup_size: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    run(workgroup, subgroup * subgroup_size + lane);
}

// Sum of `x` over the group, in each of its invocations. The whole workgroup must call it.
fn lanes_sum(x: f32, index: u32) -> f32 {
    var sum = x;
    for (var distance = 1u; distance < N_LANES; distance *= 2u) {
        sum += subgroupShuffleXor(sum, distance);
    }
    return sum;
}
