// Entry point and workgroup-wide sums by subgroup operations, for any subgroup size.
//
// A kernel file that follows defines `run(workgroup, local)`; `local` is 0..WORKGROUP.

override WORKGROUP: u32 = 256;
override MAX_SUBGROUPS: u32 = WORKGROUP / 4u; // no device has smaller ones
override N_SUBGROUP_SUMS: u32 = 2u * MAX_SUBGROUPS;

var<private> subgroup_lane: u32;
var<private> subgroup_index: u32;
var<private> subgroup_count: u32;
// Calls alternate between two halves: then one barrier a call is enough, since no thread still reads the half written to.
var<workgroup> subgroup_sums: array<vec2<f32>, N_SUBGROUP_SUMS>;
var<private> subgroup_sums_half: u32 = 0u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_id) index: u32,
    @builtin(num_subgroups) count: u32,
) {
    subgroup_lane = lane;
    subgroup_index = index;
    subgroup_count = count;
    run(workgroup, local);
}

// Sum of `x` over the workgroup, in every invocation. All of them must call it.
fn workgroup_sum2(x: vec2<f32>, local: u32) -> vec2<f32> {
    let sum = subgroupAdd(x);
    subgroup_sums_half = MAX_SUBGROUPS - subgroup_sums_half;
    if subgroup_lane == 0u {
        subgroup_sums[subgroup_sums_half + subgroup_index] = sum;
    }
    workgroupBarrier();
    var total = vec2<f32>(0.0);
    for (var i = 0u; i < subgroup_count; i++) {
        total += subgroup_sums[subgroup_sums_half + i];
    }
    return total;
}

fn workgroup_sum(x: f32, local: u32) -> f32 {
    return workgroup_sum2(vec2<f32>(x, 0.0), local).x;
}
