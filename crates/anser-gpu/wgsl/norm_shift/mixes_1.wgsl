// The result of a token shift with one mix. Follows out/*.wgsl.

@group(0) @binding(5) var<storage, read_write> out: array<Out>; // [T, C]

struct Mixes {
    m0: f32,
}

fn load_mixes(c: u32) -> Mixes {
    return Mixes(mix_of(0u, c));
}

fn write_mixes(row: u32, c: u32, local: u32, valid: bool, m: Mixes, current: f32, previous: f32) {
    if !valid {
        return;
    }
    let i = row + c;
    let difference = previous - current;
    out[i] = to_out(current + difference * m.m0);
}
