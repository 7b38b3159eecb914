// The rows of x that the step wants outputs for, normalised: one workgroup per row. A thread holds up to MAX_HELD elements.
// Follows reduce/*.wgsl, bytes_out.wgsl, place.wgsl and place.wgsl.

override N_COLS: u32; // C
override EPS: f32;
override VECTOR_STRIDE: u32; // elements between the vectors of a run

@group(0) @binding(0) var<storage, read> outputs: array<u32>;      // [O] rows of x
@group(0) @binding(1) var<storage, read> x: array<f32>;            // [T, C]
@group(0) @binding(2) var<storage, read> norm: array<f32>;         // [2, C] scale and offset
@group(0) @binding(3) var<storage, read_write> out: array<u32>;    // the result [O, C], see place.wgsl

const MAX_HELD: u32 = 16u;
override N_HELD: u32 = (N_COLS + WORKGROUP - 1u) / WORKGROUP;
override N_STAGED: u32 = (N_COLS + 15u) / 16u * PITCH;

const PITCH: u32 = 17u; // from one staged piece to the next: a number of banks that spreads them over the memory

var<workgroup> staged: array<f32, N_STAGED>; // [C / 16, PITCH]

fn run(workgroup: vec3<u32>, local: u32) {
    let o = workgroup.x;
    let row = outputs[o] * N_COLS;
    var held: array<f32, MAX_HELD>;
    var sum = 0.0;
    for (var i = 0u; i < N_HELD; i++) {
        let c = local + i * WORKGROUP;
        held[i] = 0.0;
        if c < N_COLS {
            held[i] = x[row + c];
        }
        sum += held[i];
    }
    let mean = workgroup_sum(sum, local) / f32(N_COLS);
    var squares = 0.0;
    for (var i = 0u; i < N_HELD; i++) {
        if local + i * WORKGROUP < N_COLS {
            squares += (held[i] - mean) * (held[i] - mean);
        }
    }
    let scale = inverseSqrt(workgroup_sum(squares, local) / f32(N_COLS) + EPS);
    for (var i = 0u; i < N_HELD; i++) {
        let c = local + i * WORKGROUP;
        if c < N_COLS {
            let value = (held[i] - mean) * scale * norm[c] + norm[VECTOR_STRIDE + c];
            staged[c / 16u * PITCH + c % 16u] = value;
            if OUT.floats != NOTHING {
                out[OUT.floats + o * N_COLS + c] = bitcast<u32>(value);
            }
        }
    }
    if OUT.bytes == NOTHING {
        return;
    }
    workgroupBarrier();
    for (var p = local; p < N_COLS / 16u; p += WORKGROUP) {
        let at = PITCH * p;
        let bytes = to_bytes(staged4(at), staged4(at + 4u), staged4(at + 8u), staged4(at + 12u));
        let to = o * (N_COLS / 16u) + p;
        write_bytes(OUT.bytes, OUT.scales, to, bytes);
    }
}

fn staged4(at: u32) -> vec4<f32> {
    return vec4<f32>(staged[at], staged[at + 1u], staged[at + 2u], staged[at + 3u]);
}
