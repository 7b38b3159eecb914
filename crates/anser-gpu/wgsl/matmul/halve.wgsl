// x `[T, N_COLS]` in halves, rows padded with zeros to whole pieces of 16 columns. Follows halves.wgsl.
//
// One thread per piece; workgroups along x cover a row, along y the tokens.

@group(0) @binding(0) var<storage, read_write> halves: array<vec4<u32>>; // [T, N_PIECES, 2]

override WORKGROUP: u32;

fn halve(v: vec4<f32>) -> vec2<u32> {
    let x = for_halves(v);
    return vec2<u32>(pack2x16float(x.xy), pack2x16float(x.zw));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N_PIECES {
        return;
    }
    let piece = input(id.y, id.x);
    let i = 2u * (id.y * N_PIECES + id.x);
    halves[i] = vec4<u32>(halve(piece.a), halve(piece.b));
    halves[i + 1u] = vec4<u32>(halve(piece.c), halve(piece.d));
}
