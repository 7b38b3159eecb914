// Up to MAX_JOBS jobs in a constant: a thread asks for its first weights without waiting for a table. Follows jobs.wgsl; JOBS is
// the kernel's argument, an array of MAX_JOBS jobs.
//
// Ladder (H200, 2.9B Q4_K_M, one dispatch of seven products): a uniform table 17.8 µs, immediates 19.6 µs, constants 14.7 µs.

override N_JOBS: u32;

const MAX_JOBS: u32 = 8u;

// The job of workgroup `number`.
fn job_of(number: u32) -> Job {
    var job = JOBS[0];
    if N_JOBS > 1u && number >= JOBS[1].first_workgroup {
        job = JOBS[1];
    }
    if N_JOBS > 2u && number >= JOBS[2].first_workgroup {
        job = JOBS[2];
    }
    if N_JOBS > 3u && number >= JOBS[3].first_workgroup {
        job = JOBS[3];
    }
    if N_JOBS > 4u && number >= JOBS[4].first_workgroup {
        job = JOBS[4];
    }
    if N_JOBS > 5u && number >= JOBS[5].first_workgroup {
        job = JOBS[5];
    }
    if N_JOBS > 6u && number >= JOBS[6].first_workgroup {
        job = JOBS[6];
    }
    if N_JOBS > 7u && number >= JOBS[7].first_workgroup {
        job = JOBS[7];
    }
    return job;
}
