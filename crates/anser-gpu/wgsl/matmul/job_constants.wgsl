// Up to eight jobs, in constants: their first weights are asked for without a look at a table. Follows jobs.wgsl.

override N_JOBS: u32;

override JOB_0_FIRST_WORKGROUP: u32 = 0u;
override JOB_0_N_ROWS: u32 = 0u;
override JOB_0_WEIGHTS: u32 = 0u;
override JOB_0_KIND: u32 = 0u;
override JOB_0_X: u32 = 0u;
override JOB_0_SCALES: u32 = 0u;
override JOB_0_BIAS: u32 = 0u;
override JOB_0_EPILOGUE: u32 = 0u;
override JOB_0_N_TOTAL: u32 = 0u;
override JOB_0_FIRST_ROW: u32 = 0u;
override JOB_0_OUT: u32 = 0u;
override JOB_0_OUT_BYTES: u32 = 0u;
override JOB_0_OUT_SCALES: u32 = 0u;
override JOB_0_N_COLS: u32 = 0u;
override JOB_0_NORM_SCALE: u32 = 0u;
override JOB_0_NORM_OFFSET: u32 = 0u;

override JOB_1_FIRST_WORKGROUP: u32 = 0u;
override JOB_1_N_ROWS: u32 = 0u;
override JOB_1_WEIGHTS: u32 = 0u;
override JOB_1_KIND: u32 = 0u;
override JOB_1_X: u32 = 0u;
override JOB_1_SCALES: u32 = 0u;
override JOB_1_BIAS: u32 = 0u;
override JOB_1_EPILOGUE: u32 = 0u;
override JOB_1_N_TOTAL: u32 = 0u;
override JOB_1_FIRST_ROW: u32 = 0u;
override JOB_1_OUT: u32 = 0u;
override JOB_1_OUT_BYTES: u32 = 0u;
override JOB_1_OUT_SCALES: u32 = 0u;
override JOB_1_N_COLS: u32 = 0u;
override JOB_1_NORM_SCALE: u32 = 0u;
override JOB_1_NORM_OFFSET: u32 = 0u;

override JOB_2_FIRST_WORKGROUP: u32 = 0u;
override JOB_2_N_ROWS: u32 = 0u;
override JOB_2_WEIGHTS: u32 = 0u;
override JOB_2_KIND: u32 = 0u;
override JOB_2_X: u32 = 0u;
override JOB_2_SCALES: u32 = 0u;
override JOB_2_BIAS: u32 = 0u;
override JOB_2_EPILOGUE: u32 = 0u;
override JOB_2_N_TOTAL: u32 = 0u;
override JOB_2_FIRST_ROW: u32 = 0u;
override JOB_2_OUT: u32 = 0u;
override JOB_2_OUT_BYTES: u32 = 0u;
override JOB_2_OUT_SCALES: u32 = 0u;
override JOB_2_N_COLS: u32 = 0u;
override JOB_2_NORM_SCALE: u32 = 0u;
override JOB_2_NORM_OFFSET: u32 = 0u;

override JOB_3_FIRST_WORKGROUP: u32 = 0u;
override JOB_3_N_ROWS: u32 = 0u;
override JOB_3_WEIGHTS: u32 = 0u;
override JOB_3_KIND: u32 = 0u;
override JOB_3_X: u32 = 0u;
override JOB_3_SCALES: u32 = 0u;
override JOB_3_BIAS: u32 = 0u;
override JOB_3_EPILOGUE: u32 = 0u;
override JOB_3_N_TOTAL: u32 = 0u;
override JOB_3_FIRST_ROW: u32 = 0u;
override JOB_3_OUT: u32 = 0u;
override JOB_3_OUT_BYTES: u32 = 0u;
override JOB_3_OUT_SCALES: u32 = 0u;
override JOB_3_N_COLS: u32 = 0u;
override JOB_3_NORM_SCALE: u32 = 0u;
override JOB_3_NORM_OFFSET: u32 = 0u;

override JOB_4_FIRST_WORKGROUP: u32 = 0u;
override JOB_4_N_ROWS: u32 = 0u;
override JOB_4_WEIGHTS: u32 = 0u;
override JOB_4_KIND: u32 = 0u;
override JOB_4_X: u32 = 0u;
override JOB_4_SCALES: u32 = 0u;
override JOB_4_BIAS: u32 = 0u;
override JOB_4_EPILOGUE: u32 = 0u;
override JOB_4_N_TOTAL: u32 = 0u;
override JOB_4_FIRST_ROW: u32 = 0u;
override JOB_4_OUT: u32 = 0u;
override JOB_4_OUT_BYTES: u32 = 0u;
override JOB_4_OUT_SCALES: u32 = 0u;
override JOB_4_N_COLS: u32 = 0u;
override JOB_4_NORM_SCALE: u32 = 0u;
override JOB_4_NORM_OFFSET: u32 = 0u;

override JOB_5_FIRST_WORKGROUP: u32 = 0u;
override JOB_5_N_ROWS: u32 = 0u;
override JOB_5_WEIGHTS: u32 = 0u;
override JOB_5_KIND: u32 = 0u;
override JOB_5_X: u32 = 0u;
override JOB_5_SCALES: u32 = 0u;
override JOB_5_BIAS: u32 = 0u;
override JOB_5_EPILOGUE: u32 = 0u;
override JOB_5_N_TOTAL: u32 = 0u;
override JOB_5_FIRST_ROW: u32 = 0u;
override JOB_5_OUT: u32 = 0u;
override JOB_5_OUT_BYTES: u32 = 0u;
override JOB_5_OUT_SCALES: u32 = 0u;
override JOB_5_N_COLS: u32 = 0u;
override JOB_5_NORM_SCALE: u32 = 0u;
override JOB_5_NORM_OFFSET: u32 = 0u;

override JOB_6_FIRST_WORKGROUP: u32 = 0u;
override JOB_6_N_ROWS: u32 = 0u;
override JOB_6_WEIGHTS: u32 = 0u;
override JOB_6_KIND: u32 = 0u;
override JOB_6_X: u32 = 0u;
override JOB_6_SCALES: u32 = 0u;
override JOB_6_BIAS: u32 = 0u;
override JOB_6_EPILOGUE: u32 = 0u;
override JOB_6_N_TOTAL: u32 = 0u;
override JOB_6_FIRST_ROW: u32 = 0u;
override JOB_6_OUT: u32 = 0u;
override JOB_6_OUT_BYTES: u32 = 0u;
override JOB_6_OUT_SCALES: u32 = 0u;
override JOB_6_N_COLS: u32 = 0u;
override JOB_6_NORM_SCALE: u32 = 0u;
override JOB_6_NORM_OFFSET: u32 = 0u;

override JOB_7_FIRST_WORKGROUP: u32 = 0u;
override JOB_7_N_ROWS: u32 = 0u;
override JOB_7_WEIGHTS: u32 = 0u;
override JOB_7_KIND: u32 = 0u;
override JOB_7_X: u32 = 0u;
override JOB_7_SCALES: u32 = 0u;
override JOB_7_BIAS: u32 = 0u;
override JOB_7_EPILOGUE: u32 = 0u;
override JOB_7_N_TOTAL: u32 = 0u;
override JOB_7_FIRST_ROW: u32 = 0u;
override JOB_7_OUT: u32 = 0u;
override JOB_7_OUT_BYTES: u32 = 0u;
override JOB_7_OUT_SCALES: u32 = 0u;
override JOB_7_N_COLS: u32 = 0u;
override JOB_7_NORM_SCALE: u32 = 0u;
override JOB_7_NORM_OFFSET: u32 = 0u;

// The job of workgroup `number`.
fn job_of(number: u32) -> Job {
    var job = job_0();
    if N_JOBS > 1u && number >= JOB_1_FIRST_WORKGROUP {
        job = job_1();
    }
    if N_JOBS > 2u && number >= JOB_2_FIRST_WORKGROUP {
        job = job_2();
    }
    if N_JOBS > 3u && number >= JOB_3_FIRST_WORKGROUP {
        job = job_3();
    }
    if N_JOBS > 4u && number >= JOB_4_FIRST_WORKGROUP {
        job = job_4();
    }
    if N_JOBS > 5u && number >= JOB_5_FIRST_WORKGROUP {
        job = job_5();
    }
    if N_JOBS > 6u && number >= JOB_6_FIRST_WORKGROUP {
        job = job_6();
    }
    if N_JOBS > 7u && number >= JOB_7_FIRST_WORKGROUP {
        job = job_7();
    }
    return job;
}

fn job_0() -> Job {
    return Job(
        JOB_0_FIRST_WORKGROUP,
        JOB_0_N_ROWS,
        JOB_0_WEIGHTS,
        JOB_0_KIND,
        JOB_0_X,
        JOB_0_SCALES,
        JOB_0_BIAS,
        JOB_0_EPILOGUE,
        JOB_0_N_TOTAL,
        JOB_0_FIRST_ROW,
        JOB_0_OUT,
        JOB_0_OUT_BYTES,
        JOB_0_OUT_SCALES,
        JOB_0_N_COLS,
        JOB_0_NORM_SCALE,
        JOB_0_NORM_OFFSET,
    );
}

fn job_1() -> Job {
    return Job(
        JOB_1_FIRST_WORKGROUP,
        JOB_1_N_ROWS,
        JOB_1_WEIGHTS,
        JOB_1_KIND,
        JOB_1_X,
        JOB_1_SCALES,
        JOB_1_BIAS,
        JOB_1_EPILOGUE,
        JOB_1_N_TOTAL,
        JOB_1_FIRST_ROW,
        JOB_1_OUT,
        JOB_1_OUT_BYTES,
        JOB_1_OUT_SCALES,
        JOB_1_N_COLS,
        JOB_1_NORM_SCALE,
        JOB_1_NORM_OFFSET,
    );
}

fn job_2() -> Job {
    return Job(
        JOB_2_FIRST_WORKGROUP,
        JOB_2_N_ROWS,
        JOB_2_WEIGHTS,
        JOB_2_KIND,
        JOB_2_X,
        JOB_2_SCALES,
        JOB_2_BIAS,
        JOB_2_EPILOGUE,
        JOB_2_N_TOTAL,
        JOB_2_FIRST_ROW,
        JOB_2_OUT,
        JOB_2_OUT_BYTES,
        JOB_2_OUT_SCALES,
        JOB_2_N_COLS,
        JOB_2_NORM_SCALE,
        JOB_2_NORM_OFFSET,
    );
}

fn job_3() -> Job {
    return Job(
        JOB_3_FIRST_WORKGROUP,
        JOB_3_N_ROWS,
        JOB_3_WEIGHTS,
        JOB_3_KIND,
        JOB_3_X,
        JOB_3_SCALES,
        JOB_3_BIAS,
        JOB_3_EPILOGUE,
        JOB_3_N_TOTAL,
        JOB_3_FIRST_ROW,
        JOB_3_OUT,
        JOB_3_OUT_BYTES,
        JOB_3_OUT_SCALES,
        JOB_3_N_COLS,
        JOB_3_NORM_SCALE,
        JOB_3_NORM_OFFSET,
    );
}

fn job_4() -> Job {
    return Job(
        JOB_4_FIRST_WORKGROUP,
        JOB_4_N_ROWS,
        JOB_4_WEIGHTS,
        JOB_4_KIND,
        JOB_4_X,
        JOB_4_SCALES,
        JOB_4_BIAS,
        JOB_4_EPILOGUE,
        JOB_4_N_TOTAL,
        JOB_4_FIRST_ROW,
        JOB_4_OUT,
        JOB_4_OUT_BYTES,
        JOB_4_OUT_SCALES,
        JOB_4_N_COLS,
        JOB_4_NORM_SCALE,
        JOB_4_NORM_OFFSET,
    );
}

fn job_5() -> Job {
    return Job(
        JOB_5_FIRST_WORKGROUP,
        JOB_5_N_ROWS,
        JOB_5_WEIGHTS,
        JOB_5_KIND,
        JOB_5_X,
        JOB_5_SCALES,
        JOB_5_BIAS,
        JOB_5_EPILOGUE,
        JOB_5_N_TOTAL,
        JOB_5_FIRST_ROW,
        JOB_5_OUT,
        JOB_5_OUT_BYTES,
        JOB_5_OUT_SCALES,
        JOB_5_N_COLS,
        JOB_5_NORM_SCALE,
        JOB_5_NORM_OFFSET,
    );
}

fn job_6() -> Job {
    return Job(
        JOB_6_FIRST_WORKGROUP,
        JOB_6_N_ROWS,
        JOB_6_WEIGHTS,
        JOB_6_KIND,
        JOB_6_X,
        JOB_6_SCALES,
        JOB_6_BIAS,
        JOB_6_EPILOGUE,
        JOB_6_N_TOTAL,
        JOB_6_FIRST_ROW,
        JOB_6_OUT,
        JOB_6_OUT_BYTES,
        JOB_6_OUT_SCALES,
        JOB_6_N_COLS,
        JOB_6_NORM_SCALE,
        JOB_6_NORM_OFFSET,
    );
}

fn job_7() -> Job {
    return Job(
        JOB_7_FIRST_WORKGROUP,
        JOB_7_N_ROWS,
        JOB_7_WEIGHTS,
        JOB_7_KIND,
        JOB_7_X,
        JOB_7_SCALES,
        JOB_7_BIAS,
        JOB_7_EPILOGUE,
        JOB_7_N_TOTAL,
        JOB_7_FIRST_ROW,
        JOB_7_OUT,
        JOB_7_OUT_BYTES,
        JOB_7_OUT_SCALES,
        JOB_7_N_COLS,
        JOB_7_NORM_SCALE,
        JOB_7_NORM_OFFSET,
    );
}
