// out = epilogue(x · weightᵀ) for up to COLUMNS tokens whose inputs are mostly zero: weights are read only where the input of
// some token is not. What is left out is a sum of products with exact zeros, so nothing is lost.
//
// A workgroup computes a panel of rows (see weight/panels_f16.wgsl). Eight neighbouring threads share an octet of its rows and blocks
// of 256 columns: each finds the non-zero inputs of 32 of them, reads four of those columns at a time and adds up what they
// give. At the end neighbours fold their sums, and those of all blocks are added in order. Follows matmul/epilogue.wgsl,
// lanes/subgroup.wgsl, lanes/fold.wgsl and weight/panels_f16.wgsl.

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // [T, N_COLS]

override COLUMNS: u32; // 1, 2, 4 or 8

override N_BLOCKS: u32 = N_COLS / 256u;
override N_GANGS: u32 = WORKGROUP / PANEL_ROWS; // blocks that are read at the same time
override N_ROUNDS: u32 = (N_BLOCKS + N_GANGS - 1u) / N_GANGS;
override N_PARTIAL: u32 = COLUMNS * WORKGROUP;

var<workgroup> partial: array<f32, N_PARTIAL>; // [COLUMNS, N_GANGS, PANEL_ROWS]

// Sums of an octet of rows, by token.
var<private> low: array<vec4<f32>, 8>;
var<private> high: array<vec4<f32>, 8>;

// What a thread has of a block: 32 columns of an octet of rows.
struct Share {
    panel: u32,
    octet: u32,
    first: u32, // column
    mask: u32,  // of those columns that have a non-zero input
}

fn share_of(panel: u32, octet: u32, block: u32, lane: u32) -> Share {
    let first = 256u * min(block, N_BLOCKS - 1u);
    let mask = select(0u, nonzero(first, lane), block < N_BLOCKS);
    return Share(panel, octet, first + 32u * lane, mask);
}

fn run(workgroup: vec3<u32>, index: u32) {
    let panel = workgroup.x;
    let octet = index / 8u % 2u;
    let gang = index / PANEL_ROWS;
    let lane = index % 8u;
    // The element that the thread will write; fetched early, so that nothing has to be waited for at the end.
    let row = panel * PANEL_ROWS + index % PANEL_ROWS;
    let token = gang;
    let residual = load_residual(row, column_token(token));
    let bias = load_bias(row);

    var share = share_of(panel, octet, gang, lane);
    for (var round = 1u; round < N_ROUNDS; round++) {
        let next = share_of(panel, octet, round * N_GANGS + gang, lane);
        add_share(share);
        share = next;
    }
    add_share(share);

    for (var t = 0u; t < COLUMNS; t++) {
        partial[t * WORKGROUP + index] = fold(low[t], high[t], lane);
    }
    workgroupBarrier();
    if token < COLUMNS && token < n_tokens() {
        var sum = 0.0;
        for (var g = 0u; g < N_GANGS; g++) {
            sum += partial[token * WORKGROUP + g * PANEL_ROWS + index % PANEL_ROWS];
        }
        out[out_index(row, token)] = residual + activate(sum + bias);
    }
}

// Columns beyond the last token repeat it.
fn column_token(column: u32) -> u32 {
    return min(column, n_tokens() - 1u);
}

// Which of a thread's 32 columns have a non-zero input, as bits. `first` is the first column of the block.
fn nonzero(first: u32, lane: u32) -> u32 {
    // Bits of four columns of each thread's: neighbours read neighbouring ones.
    var bits = 0u;
    for (var t = 0u; t < COLUMNS; t++) {
        let at = (column_token(t) * N_COLS + first) / 4u + lane;
        let a = vec4<u32>(nonzero4(x[at]), nonzero4(x[at + 8u]), nonzero4(x[at + 16u]), nonzero4(x[at + 24u]));
        let b = vec4<u32>(nonzero4(x[at + 32u]), nonzero4(x[at + 40u]), nonzero4(x[at + 48u]), nonzero4(x[at + 56u]));
        let four = (a << vec4<u32>(0u, 4u, 8u, 12u)) | (b << vec4<u32>(16u, 20u, 24u, 28u));
        bits |= four.x | four.y | four.z | four.w;
    }
    // Eight threads have eight times four bits: each gets its own from all of them.
    bits = exchange(bits, lane, 4u, 16u, 0x0000ffffu);
    bits = exchange(bits, lane, 2u, 8u, 0x00ff00ffu);
    return exchange(bits, lane, 1u, 4u, 0x0f0f0f0fu);
}

fn nonzero4(values: vec4<f32>) -> u32 {
    let bits = select(vec4<u32>(0u), vec4<u32>(1u, 2u, 4u, 8u), values != vec4<f32>(0.0));
    return bits.x | bits.y | bits.z | bits.w;
}

// Swaps the upper bits of each pair of fields with the lower ones of the thread at a distance; `lower` has the latter set.
fn exchange(bits: u32, lane: u32, distance: u32, width: u32, lower: u32) -> u32 {
    let other = subgroupShuffleXor(bits, distance);
    let from_lower = (bits & lower) | ((other & lower) << width);
    let from_upper = (bits & ~lower) | ((other >> width) & lower);
    return select(from_lower, from_upper, (lane & distance) != 0u);
}

// Four columns on their way. Beyond the last of a mask they repeat the first, with inputs of zero.
struct Four {
    columns: vec4<u32>,
    is_there: vec4<bool>,
    x: vec4<f32>, // inputs of the first token
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
}

fn without_first(mask: u32) -> u32 {
    return mask & (mask - 1u);
}

fn without_four(mask: u32) -> u32 {
    return without_first(without_first(without_first(without_first(mask))));
}

fn fetch(share: Share, mask: u32) -> Four {
    let masks = vec4<u32>(
        mask,
        without_first(mask),
        without_first(without_first(mask)),
        without_first(without_first(without_first(mask))),
    );
    let is_there = masks != vec4<u32>(0u);
    let first = firstTrailingBit(mask) & 31u;
    let columns = share.first + select(vec4<u32>(first), firstTrailingBit(masks), is_there);
    return Four(
        columns,
        is_there,
        inputs(0u, columns, is_there),
        load_octet(share.panel, share.octet, columns.x),
        load_octet(share.panel, share.octet, columns.y),
        load_octet(share.panel, share.octet, columns.z),
        load_octet(share.panel, share.octet, columns.w),
    );
}

fn inputs(t: u32, columns: vec4<u32>, is_there: vec4<bool>) -> vec4<f32> {
    let at = column_token(t) * N_COLS + columns;
    let values = vec4<f32>(input(at.x), input(at.y), input(at.z), input(at.w));
    return select(vec4<f32>(0.0), values, is_there);
}

fn input(at: u32) -> f32 {
    return x[at / 4u][at % 4u];
}

fn add_four(four: Four) {
    let a = octet_values(four.a);
    let b = octet_values(four.b);
    let c = octet_values(four.c);
    let d = octet_values(four.d);
    for (var t = 0u; t < COLUMNS; t++) {
        var values = four.x;
        if t > 0u {
            values = inputs(t, four.columns, four.is_there);
        }
        low[t] += (values.x * a.low + values.y * b.low) + (values.z * c.low + values.w * d.low);
        high[t] += (values.x * a.high + values.y * b.high) + (values.z * c.high + values.w * d.high);
    }
}

// Adds the columns of a share. For few tokens the next four are on their way while four are added; sums of more take the
// registers for that.
fn add_share(share: Share) {
    var rest = share.mask;
    while rest != 0u {
        let four = fetch(share, rest);
        rest = without_four(rest);
        if COLUMNS <= 2u && rest != 0u {
            let other = fetch(share, rest);
            rest = without_four(rest);
            add_four(four);
            add_four(other);
        } else {
            add_four(four);
        }
    }
}
