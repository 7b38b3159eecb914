// The end of a head's kernel: the norm of its results y over the head, and the result of the unit in the forms that are wanted.
// A workgroup has one head; N_LANES threads share a row. Follows place.wgsl, bytes_out.wgsl, lanes/*.wgsl and head/rows.wgsl;
// OUT, the place of the result, is the kernel's argument.

override EPS: f32;
override N_ROWS: u32 = WORKGROUP / N_LANES; // at least N

@group(0) @binding(2) var<storage, read_write> out: array<u32>;

var<workgroup> staged_y: array<f32, N_ROWS>; // y by row

// (y − mean) / √(variance + EPS) of row `column` of the head. All threads must call it, after y is staged and a barrier.
fn norm_of_head(column: u32, lane: u32, index: u32) -> f32 {
    // Every group of lanes sums all rows.
    var sum = 0.0;
    for (var i = lane; i < HEAD_SIZE; i += N_LANES) {
        sum += staged_y[i];
    }
    let mean = lanes_sum(sum, index) / f32(HEAD_SIZE);
    var variance = 0.0;
    for (var i = lane; i < HEAD_SIZE; i += N_LANES) {
        let d = staged_y[i] - mean;
        variance += d * d;
    }
    let scale = inverseSqrt(lanes_sum(variance, index) / f32(HEAD_SIZE) + EPS);
    return (staged_y[column] - mean) * scale;
}

// Writes element `index` of the head of token `t`. All threads must call it.
fn store_result(t: u32, head: u32, index: u32, result: f32) {
    if index < HEAD_SIZE && OUT.floats != NOTHING {
        out[OUT.floats + t * N_COLS + head + index] = bitcast<u32>(result);
    }
    if OUT.bytes != NOTHING || OUT.halves != NOTHING {
        workgroupBarrier(); // all have read y
        if index < HEAD_SIZE {
            staged_y[index] = result;
        }
        workgroupBarrier();
        if OUT.bytes != NOTHING && index < HEAD_SIZE / 16u {
            let at = 16u * index;
            let bytes = to_bytes(staged4(at), staged4(at + 4u), staged4(at + 8u), staged4(at + 12u));
            write_bytes(OUT.bytes, OUT.scales, (t * N_COLS + head) / 16u + index, bytes);
        }
        if OUT.halves != NOTHING && index < HEAD_SIZE / 2u {
            let to = OUT.halves + (t * N_COLS + head) / 2u + index;
            out[to] = to_halves(staged_y[2u * index], staged_y[2u * index + 1u]);
        }
    }
}

fn staged4(at: u32) -> vec4<f32> {
    return vec4<f32>(staged_y[at], staged_y[at + 1u], staged_y[at + 2u], staged_y[at + 3u]);
}
