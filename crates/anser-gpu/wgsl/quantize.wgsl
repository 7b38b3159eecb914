// x `[T, N_COLS]` in 8 bits. One thread per piece; workgroups along x cover a row, along y the tokens. Follows bytes.wgsl.

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> quants: array<vec4<u32>>; // [T, N_PIECES]
@group(0) @binding(2) var<storage, read_write> scales: array<vec2<f32>>; // [T, N_PIECES]

override N_COLS: u32;

override WORKGROUP: u32;

override N_PIECES: u32 = N_COLS / 16u;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N_PIECES {
        return;
    }
    let piece = id.y * N_PIECES + id.x;
    let bytes = to_bytes(x[4u * piece], x[4u * piece + 1u], x[4u * piece + 2u], x[4u * piece + 3u]);
    quants[piece] = bytes.quants;
    scales[piece] = bytes.scales;
}
