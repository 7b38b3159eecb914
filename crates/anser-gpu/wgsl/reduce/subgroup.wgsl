// Entry point and workgroup-wide sums by subgroup operations, for any subgroup size.
//
// A kernel file that follows defines `run(workgroup, local)`; `local` is 0..WORKGROUP.

override WORKGROUP: u32 = 256;

var<private> subgroup_lane: u32;
var<private> subgroup_index: u32;
var<private> subgroup_count: u32;
var<workgroup> subgroup_sums: array<vec4<f32>, WORKGROUP>; // one per subgroup; there may be WORKGROUP of them

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
fn workgroup_sum4(x: vec4<f32>, local: u32) -> vec4<f32> {
    let sum = subgroupAdd(x);
    if subgroup_lane == 0u {
        subgroup_sums[subgroup_index] = sum;
    }
    workgroupBarrier();
    var total = vec4<f32>(0.0);
    for (var i = 0u; i < subgroup_count; i++) {
        total += subgroup_sums[i];
    }
    workgroupBarrier(); // before the next call writes again
    return total;
}

fn workgroup_sum(x: f32, local: u32) -> f32 {
    return workgroup_sum4(vec4<f32>(x, 0.0, 0.0, 0.0), local).x;
}
