// kk = k ∘ k_k, normalised to length 1; k_out = k ∘ (1 + (a − 1) ∘ k_a). One workgroup per head and token. Follows
// reduce/*.wgsl.

override N_COLS: u32;    // C
override HEAD_SIZE: u32; // N

@group(0) @binding(0) var<storage, read> k: array<f32>;           // [T, C]
@group(0) @binding(1) var<storage, read> a: array<f32>;           // [T, C]
@group(0) @binding(2) var<storage, read> k_k: array<f32>;         // [C]
@group(0) @binding(3) var<storage, read> k_a: array<f32>;         // [C]
@group(0) @binding(4) var<storage, read_write> kk: array<f32>;    // [T, C]
@group(0) @binding(5) var<storage, read_write> k_out: array<f32>; // [T, C]

const MIN_LENGTH: f32 = 1e-12;

fn run(workgroup: vec3<u32>, local: u32) {
    let head = workgroup.x * HEAD_SIZE;
    let row = workgroup.y * N_COLS;
    var squares = 0.0;
    for (var c = head + local; c < head + HEAD_SIZE; c += WORKGROUP) {
        let scaled = k[row + c] * k_k[c];
        squares += scaled * scaled;
    }
    let length = max(sqrt(workgroup_sum(squares, local)), MIN_LENGTH);
    for (var c = head + local; c < head + HEAD_SIZE; c += WORKGROUP) {
        let key = k[row + c];
        kk[row + c] = key * k_k[c] / length;
        k_out[row + c] = key * (1.0 + (a[row + c] - 1.0) * k_a[c]);
    }
}
