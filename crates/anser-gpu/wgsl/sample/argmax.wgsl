// The most likely token of every row, the lowest of equals. One workgroup per row. Follows step.wgsl,
// sample/turn.wgsl, sample/drawn.wgsl and sample/numbers.wgsl.

override N_CHUNKS: u32;

@group(0) @binding(0) var<storage, read> chunks: array<Chunk>;       // [O, chunks]
@group(0) @binding(1) var<storage, read_write> drawn: array<DrawnToken>; // [O]
@group(0) @binding(2) var<storage, read_write> sequences: array<Sequence>; // [B], B = O
@group(0) @binding(3) var<storage, read_write> tokens: array<Token>; // [T], T = O

var<workgroup> of_row: array<Chunk, MAX_CHUNKS>;

@compute @workgroup_size(MAX_CHUNKS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = workgroup.x;
    var chunk = Chunk(LOWEST_LOGIT, NO_TOKEN, 0u, 0.0);
    if local < N_CHUNKS {
        chunk = chunks[row * N_CHUNKS + local];
    }
    of_row[local] = chunk;
    workgroupBarrier();
    for (var stride = MAX_CHUNKS / 2u; stride > 0u; stride /= 2u) {
        if local < stride {
            let other = of_row[local + stride];
            if other.max > chunk.max || (other.max == chunk.max && other.id < chunk.id) {
                chunk.max = other.max;
                chunk.id = other.id;
            }
            chunk.is_bad |= other.is_bad;
            of_row[local] = chunk;
        }
        workgroupBarrier();
    }
    if local == 0u {
        let token = select(chunk.id, NO_TOKEN, chunk.is_bad == 1u);
        drawn[row] = DrawnToken(token, drawn[row].n_drawn + 1u);
        sequences[row] = turn(sequences[row], token != NO_TOKEN);
        tokens[row] = turn_token(tokens[row], token != NO_TOKEN);
    }
}
