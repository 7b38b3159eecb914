// out = (y + (Σ r ∘ k ∘ r_k)·v) ∘ g, the sum per head; without g if there is none. One workgroup per head and token. Follows
// reduce/*.wgsl.

override N_COLS: u32;    // C
override HEAD_SIZE: u32; // N
override HAS_GATE: bool;

@group(0) @binding(0) var<storage, read> y: array<f32>;         // [T, C]
@group(0) @binding(1) var<storage, read> r: array<f32>;         // [T, C]
@group(0) @binding(2) var<storage, read> k: array<f32>;         // [T, C]
@group(0) @binding(3) var<storage, read> v: array<f32>;         // [T, C]
@group(0) @binding(4) var<storage, read> g: array<f32>;         // [T, C]
@group(0) @binding(5) var<storage, read> r_k: array<f32>;       // [C]
@group(0) @binding(6) var<storage, read_write> out: array<f32>; // [T, C]

fn run(workgroup: vec3<u32>, local: u32) {
    let head = workgroup.x * HEAD_SIZE;
    let row = workgroup.y * N_COLS;
    var sum = 0.0;
    for (var c = head + local; c < head + HEAD_SIZE; c += WORKGROUP) {
        sum += r[row + c] * k[row + c] * r_k[c];
    }
    let bonus = workgroup_sum(sum, local);
    for (var c = head + local; c < head + HEAD_SIZE; c += WORKGROUP) {
        let with_bonus = y[row + c] + bonus * v[row + c];
        out[row + c] = select(with_bonus, with_bonus * g[row + c], HAS_GATE);
    }
}
