// Weights in halves: rows of N_COLS, padded with zeros to whole pieces of 16 columns. One thread per piece, so that
// neighbours write side by side; workgroups are numbered along x, then y. Follows halves.wgsl.

@group(0) @binding(1) var<storage, read_write> halves: array<vec4<u32>>; // [n_rows, N_PIECES, 2]

@group(0) @binding(2) var<uniform> sizes: vec4<u32>; // n_rows, 0, 0, 0

override WORKGROUP: u32;

const GRID_WIDTH: u32 = 32768u; // workgroups along x before y is used; a dimension may have 65535

fn eight_halves(low_weights: vec4<f32>, high_weights: vec4<f32>) -> vec4<u32> {
    let low = for_halves(low_weights);
    let high = for_halves(high_weights);
    return vec4<u32>(
        pack2x16float(low.xy),
        pack2x16float(low.zw),
        pack2x16float(high.xy),
        pack2x16float(high.zw),
    );
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let id = (workgroup.x + GRID_WIDTH * workgroup.y) * WORKGROUP + local;
    if id >= sizes.x * N_PIECES {
        return;
    }
    let row = id / N_PIECES;
    let i = piece_unit(id % N_PIECES);
    let values = unit_values(load_unit(ROW_LEN * row, i.u), i.u, i.p);
    halves[2u * id] = eight_halves(values.a, values.b);
    halves[2u * id + 1u] = eight_halves(values.c, values.d);
}
