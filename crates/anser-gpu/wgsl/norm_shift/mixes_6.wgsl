// The results of a token shift with six mixes. Follows out/*.wgsl.

@group(0) @binding(5) var<storage, read_write> out_0: array<Out>;  // [T, C], as the next ones
@group(0) @binding(6) var<storage, read_write> out_1: array<Out>;
@group(0) @binding(7) var<storage, read_write> out_2: array<Out>;
@group(0) @binding(8) var<storage, read_write> out_3: array<Out>;
@group(0) @binding(9) var<storage, read_write> out_4: array<Out>;
@group(0) @binding(10) var<storage, read_write> out_5: array<Out>;

struct Mixes {
    m0: f32,
    m1: f32,
    m2: f32,
    m3: f32,
    m4: f32,
    m5: f32,
}

fn load_mixes(c: u32) -> Mixes {
    return Mixes(mix_of(0u, c), mix_of(1u, c), mix_of(2u, c), mix_of(3u, c), mix_of(4u, c), mix_of(5u, c));
}

fn write_mixes(row: u32, c: u32, local: u32, valid: bool, m: Mixes, current: f32, previous: f32) {
    if !valid {
        return;
    }
    let i = row + c;
    let difference = previous - current;
    out_0[i] = to_out(current + difference * m.m0);
    out_1[i] = to_out(current + difference * m.m1);
    out_2[i] = to_out(current + difference * m.m2);
    out_3[i] = to_out(current + difference * m.m3);
    out_4[i] = to_out(current + difference * m.m4);
    out_5[i] = to_out(current + difference * m.m5);
}
