// Entry point and sums over groups of N_LANES neighbouring invocations, through workgroup memory.
//
// A kernel file that follows defines `run(workgroup, index)`; `index` is 0..WORKGROUP, and the invocations of one group
// have the same index / N_LANES.

override WORKGROUP: u32;
override N_LANES: u32; // a power of two
override N_LANE_SUMS: u32 = 2u * WORKGROUP;

// Calls alternate between two halves: then one barrier a call is enough, since no thread still reads the half written to.
var<workgroup> lane_sums: array<f32, N_LANE_SUMS>;
var<private> lane_sums_half: u32 = 0u;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    run(workgroup, index);
}

// Sum of `x` over the group, in each of its invocations. The whole workgroup must call it.
fn lanes_sum(x: f32, index: u32) -> f32 {
    lane_sums_half = WORKGROUP - lane_sums_half;
    lane_sums[lane_sums_half + index] = x;
    workgroupBarrier();
    let first = lane_sums_half + index / N_LANES * N_LANES;
    var sum = 0.0;
    for (var i = 0u; i < N_LANES; i++) {
        sum += lane_sums[first + i];
    }
    return sum;
}
