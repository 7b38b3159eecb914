// A stand-in for matrices_cooperative.wgsl in plain arithmetic, which any device with f16 runs: so the kernels of prompts can be
// tested where there are no cooperative matrices. SUBGROUP_LEN neighbouring threads stand for a subgroup. A matrix of weights or
// inputs is where it lies in its tile, which stays as it is until the next barrier; each thread has some of the sums.

struct MatA {
    at: u32, // tokens
}

struct MatB {
    at: u32,          // weights
    row_step: u32,    // halves from a row to the next
    column_step: u32, // halves from a column to the next
}

const MAX_SUMS: u32 = 64u; // SUBGROUP_LEN is at least 4

struct MatC {
    sums: array<f32, MAX_SUMS>, // row e % 16 and token e / 16, for e = lane, lane + SUBGROUP_LEN, ...
}

var<private> matrix_lane: u32;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    matrix_lane = local % SUBGROUP_LEN;
    run(workgroup, local, local / SUBGROUP_LEN, matrix_lane);
}

fn load_rows(at: u32) -> MatB {
    return MatB(4u * at, 4u * PITCH, 1u);
}

// Weights from vec4 `at` of a tile whose columns lie `pitch` apart.
fn load_columns(at: u32, pitch: u32) -> MatB {
    return MatB(4u * at, 1u, 4u * pitch);
}

fn load_input(at: u32) -> MatA {
    return MatA(4u * at);
}

fn weight_at(i: u32) -> f32 {
    return f32(weight_tile[i / 4u][i % 4u]);
}

fn input_at(i: u32) -> f32 {
    return f32(input_tile[i / 4u][i % 4u]);
}

// In place of the built-in function of this name: a function around that one costs 5 % of a prompt's time on an H200.
fn coopMultiplyAdd(a: MatA, b: MatB, c: MatC) -> MatC {
    var result = c;
    for (var i = 0u; i < 256u / SUBGROUP_LEN; i++) {
        let e = matrix_lane + i * SUBGROUP_LEN;
        let row = b.at + e % 16u * b.row_step;
        let token = a.at + e / 16u * 4u * PITCH;
        var sum = 0.0;
        for (var k = 0u; k < 16u; k++) {
            sum += weight_at(row + k * b.column_step) * input_at(token + k);
        }
        result.sums[i] += sum;
    }
    return result;
}
