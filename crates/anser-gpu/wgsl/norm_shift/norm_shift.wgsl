// The token shift of a layer norm: xx = norm(x), then mixes of xx and the previous token's xx. One workgroup per token; it
// normalises the previous token's row as well, unless that one is in the state. Follows step.wgsl, reduce/*.wgsl and
// norm_shift/mixes_*.wgsl.

override N_COLS: u32; // C
override EPS: f32;
override VECTOR_STRIDE: u32; // elements between the vectors of a run

@group(0) @binding(0) var<storage, read> tokens: array<Token>;    // [T]
@group(0) @binding(1) var<storage, read> x: array<f32>;           // [T, C]
@group(0) @binding(2) var<storage, read> norm: array<f32>;        // [2, C] scale and offset
@group(0) @binding(3) var<storage, read> mix: array<f32>;         // [mixes, C]
@group(0) @binding(4) var<storage, read_write> state: array<f32>; // [slots, 2, C]

const MAX_HELD: u32 = 16u;                                  // elements of a row in one invocation
override N_HELD: u32 = (N_COLS + WORKGROUP - 1u) / WORKGROUP;

fn run(workgroup: vec3<u32>, local: u32) {
    let t = workgroup.x;
    let token = tokens[t];
    let row = t * N_COLS;
    let row_before = select(row, row - N_COLS, token.previous == PREVIOUS_ROW);

    // Both rows side by side, so that their sums take one reduction: x current, y previous.
    var held: array<vec2<f32>, MAX_HELD>;
    var sum = vec2<f32>(0.0);
    for (var i = 0u; i < N_HELD; i++) {
        let c = local + i * WORKGROUP;
        held[i] = vec2<f32>(0.0);
        if c < N_COLS {
            held[i] = vec2<f32>(x[row + c], x[row_before + c]);
        }
        sum += held[i];
    }
    let mean = workgroup_sum4(vec4<f32>(sum, 0.0, 0.0), local).xy / f32(N_COLS);
    var squares = vec2<f32>(0.0);
    for (var i = 0u; i < N_HELD; i++) {
        if local + i * WORKGROUP < N_COLS {
            let d = held[i] - mean;
            squares += d * d;
        }
    }
    let scale = inverseSqrt(workgroup_sum4(vec4<f32>(squares, 0.0, 0.0), local).xy / f32(N_COLS) + EPS);

    let state_before = (token.slot * 2u + token.half) * N_COLS;
    let state_after = (token.slot * 2u + 1u - token.half) * N_COLS;
    for (var i = 0u; i < N_HELD; i++) {
        let c = local + i * WORKGROUP;
        if c < N_COLS {
            let normed = (held[i] - mean) * scale * norm[c] + norm[VECTOR_STRIDE + c];
            var previous = normed.y;
            if token.previous == PREVIOUS_STATE {
                previous = state[state_before + c];
            } else if token.previous == PREVIOUS_ZERO {
                previous = 0.0;
            }
            write_mixes(row, c, normed.x, previous - normed.x);
            if token.is_last == 1u {
                state[state_after + c] = normed.x;
            }
        }
    }
}

fn mix_of(i: u32, c: u32) -> f32 {
    return mix[i * VECTOR_STRIDE + c];
}
