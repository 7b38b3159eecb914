// out = v + (v_first − v) ∘ gate: one invocation per element.

override N_COLS: u32; // C

@group(0) @binding(0) var<storage, read> v: array<f32>;         // [T, C]
@group(0) @binding(1) var<storage, read> v_first: array<f32>;   // [T, C]
@group(0) @binding(2) var<storage, read> gate: array<f32>;      // [T, C]
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [T, C]

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= N_COLS {
        return;
    }
    let i = id.y * N_COLS + id.x;
    out[i] = v[i] + (v_first[i] - v[i]) * gate[i];
}
