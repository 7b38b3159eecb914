// Products for five to eight tokens: each thread holds its columns of all inputs in registers while rows stream past, so that it
// reads nothing but weights.
//
// SPAN neighbouring threads compute a row, each a share of its columns; a row with more shares is computed in several
// chunks. ROWS_AT_ONCE · SPAN threads make a workgroup, which computes ROWS rows of one job; a row is on its way while
// the one before is computed. Eight neighbouring threads fold their sums: each keeps those of one token, which wait in
// workgroup memory until all of the row is there. Workgroups are numbered along x, then y. Follows jobs.wgsl, columns.wgsl
// (COLUMNS = 8), results.wgsl, lanes/subgroup.wgsl, lanes/fold.wgsl and held_*.wgsl, which has the weights and the inputs.

override SPAN: u32;         // a multiple of 8
override ROWS_AT_ONCE: u32; // ROWS is a multiple of this

override N_GROUPS: u32 = SPAN / 8u; // threads that fold their sums
override N_PARTIAL: u32 = ROWS * 8u * N_GROUPS;

var<workgroup> partial: array<f32, N_PARTIAL>; // [ROWS, 8, N_GROUPS]

var<private> held_0: Held; // of token 0, and so on
var<private> held_1: Held;
var<private> held_2: Held;
var<private> held_3: Held;
var<private> held_4: Held;
var<private> held_5: Held;
var<private> held_6: Held;
var<private> held_7: Held;

fn run(workgroup: vec3<u32>, index: u32) {
    let number = workgroup.x + GRID_WIDTH * workgroup.y;
    let job = job_of(number);
    let first = (number - job.first_workgroup) * ROWS;
    let row = index / SPAN;
    let lane = index % SPAN;
    let n = n_shares(job);
    for (var start = 0u; start < n; start += SPAN) {
        let share = share_of(min(start + lane, n - 1u), start + lane < n);
        var next = load_row(job, first + row, share);
        hold_all(job, share);
        for (var i = 0u; i < ROWS; i += ROWS_AT_ONCE) {
            let loaded = next;
            next = load_row(job, first + min(i + ROWS_AT_ONCE, ROWS - ROWS_AT_ONCE) + row, share);
            add_row(i + row, loaded, share, lane, start == 0u);
        }
    }
    workgroupBarrier();
    for (var i = index; i < ROWS * 8u; i += WORKGROUP) {
        let token = i / ROWS;
        let at = first + i % ROWS;
        let weight_row = min(at, job.n_rows - 1u);
        let residual = load_residual(job, weight_row, column_token(token));
        let bias = load_bias(job, weight_row);
        var sum = 0.0;
        for (var g = 0u; g < N_GROUPS; g++) {
            sum += partial[(i % ROWS * 8u + token) * N_GROUPS + g];
        }
        store(job, at, token, at < job.n_rows, sum, bias, residual, 1.0);
    }
    store_all_bytes(job, first, index);
}

fn hold_all(job: Job, share: Share) {
    held_0 = hold(job, share, 0u);
    held_1 = hold(job, share, 1u);
    held_2 = hold(job, share, 2u);
    held_3 = hold(job, share, 3u);
    held_4 = hold(job, share, 4u);
    held_5 = hold(job, share, 5u);
    held_6 = hold(job, share, 6u);
    held_7 = hold(job, share, 7u);
}

// Rows beyond the last one repeat it; their sums are not stored.
fn load_row(job: Job, row: u32, share: Share) -> Loaded {
    return load(job, min(row, job.n_rows - 1u), share);
}

// Adds what the thread has of a row to the sums of that row.
fn add_row(row: u32, loaded: Loaded, share: Share, lane: u32, is_first: bool) {
    let w = weights_of(loaded, share);
    let low = vec4<f32>(product(w, held_0), product(w, held_1), product(w, held_2), product(w, held_3));
    let high = vec4<f32>(product(w, held_4), product(w, held_5), product(w, held_6), product(w, held_7));
    let at = (row * 8u + lane % 8u) * N_GROUPS + lane / 8u;
    partial[at] = select(partial[at], 0.0, is_first) + fold(low, high, lane);
}
