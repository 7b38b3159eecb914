// F16 in panels of 16 rows, column after column, each in two octets of rows: [n_rows / 16, N_COLS, 2] vec4s of eight halves. Needs
// no f16 support in shaders. Follows weight/piece.wgsl and weight/words.wgsl.

const PANEL_ROWS: u32 = 16u;

// Eight rows of a column.
struct Octet {
    low: vec4<f32>,
    high: vec4<f32>,
}

// The bits of one.
fn load_octet(panel: u32, octet: u32, column: u32) -> vec4<u32> {
    return weights[2u * (panel * N_COLS + column) + octet];
}

fn octet_values(bits: vec4<u32>) -> Octet {
    return Octet(
        vec4<f32>(unpack2x16float(bits.x), unpack2x16float(bits.y)),
        vec4<f32>(unpack2x16float(bits.z), unpack2x16float(bits.w)),
    );
}
