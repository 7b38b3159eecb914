// Several jobs. Follows jobs.wgsl.

override N_JOBS: u32; // at most MAX_JOBS

const MAX_JOBS: u32 = 8u;

@group(0) @binding(7) var<uniform> jobs: array<Job, MAX_JOBS>;

// The job of workgroup `number`.
fn job_of(number: u32) -> Job {
    var j = 0u;
    for (var i = 1u; i < N_JOBS; i++) {
        j += select(0u, 1u, number >= jobs[i].first_workgroup);
    }
    return jobs[j];
}
