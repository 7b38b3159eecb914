// Entry point and workgroup-wide sums through workgroup memory, for devices without subgroup operations.
//
// A kernel file that follows defines `run(workgroup, local)`; `local` is 0..WORKGROUP.

override WORKGROUP: u32 = 256; // a power of two

var<workgroup> partial_sums: array<vec2<f32>, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    run(workgroup, local);
}

// Sum of `x` over the workgroup, in every invocation. All of them must call it.
fn workgroup_sum2(x: vec2<f32>, local: u32) -> vec2<f32> {
    partial_sums[local] = x;
    workgroupBarrier();
    for (var stride = WORKGROUP / 2u; stride > 0u; stride /= 2u) {
        if local < stride {
            partial_sums[local] += partial_sums[local + stride];
        }
        workgroupBarrier();
    }
    let total = partial_sums[0];
    workgroupBarrier(); // before the next call writes again
    return total;
}

fn workgroup_sum(x: f32, local: u32) -> f32 {
    return workgroup_sum2(vec2<f32>(x, 0.0), local).x;
}
