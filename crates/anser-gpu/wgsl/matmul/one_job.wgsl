// One job, in constants: its first weights are asked for without a look at a table. Follows jobs.wgsl.

override JOB_N_ROWS: u32;
override JOB_WEIGHTS: u32;
override JOB_KIND: u32;
override JOB_X: u32;
override JOB_SCALES: u32;
override JOB_BIAS: u32;
override JOB_EPILOGUE: u32;
override JOB_N_TOTAL: u32;
override JOB_FIRST_ROW: u32;
override JOB_OUT: u32;
override JOB_OUT_BYTES: u32;
override JOB_OUT_SCALES: u32;
override JOB_N_COLS: u32;
override JOB_NORM_SCALE: u32;
override JOB_NORM_OFFSET: u32;

fn job_of(number: u32) -> Job {
    return Job(
        0u,
        JOB_N_ROWS,
        JOB_WEIGHTS,
        JOB_KIND,
        JOB_X,
        JOB_SCALES,
        JOB_BIAS,
        JOB_EPILOGUE,
        JOB_N_TOTAL,
        JOB_FIRST_ROW,
        JOB_OUT,
        JOB_OUT_BYTES,
        JOB_OUT_SCALES,
        JOB_N_COLS,
        JOB_NORM_SCALE,
        JOB_NORM_OFFSET,
    );
}
