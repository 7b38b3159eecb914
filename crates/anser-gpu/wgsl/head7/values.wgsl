// The operands of a head, each computed by a kernel of its own. Comes before head/values.wgsl.

@group(0) @binding(5) var<storage, read> r: array<vec4<f32>>; // [T, C / 4]
@group(0) @binding(6) var<storage, read> w: array<f32>;       // [T, C]
@group(0) @binding(7) var<storage, read> k: array<vec4<f32>>; // [T, C / 4]
@group(0) @binding(8) var<storage, read> a: array<f32>;       // [T, C]
@group(0) @binding(9) var<storage, read> v: array<f32>;      // [T, C]
@group(0) @binding(10) var<storage, read> g: array<f32>;      // [T, C]
@group(0) @binding(11) var<storage, read> v_first: array<f32>; // [T, C], if values are mixed
@group(0) @binding(12) var<storage, read> v_gate: array<f32>;  // [T, C], if values are mixed

fn load_first_value(t: u32, column: u32) -> f32 {
    if IS_MIXED {
        return v_first[t * N_COLS + column];
    }
    return 0.0;
}

// These are fetched with everything else.
fn fetch_rates(head: u32, index: u32) {}

fn stage_rates(t: u32, head: u32, index: u32) {
    if index < HEAD_SIZE {
        let i = t * N_COLS + head + index;
        var mix = 0.0;
        if IS_MIXED {
            mix = v_gate[i];
        }
        rates[index] = Rates(w[i], a[i], g[i], mix);
    }
}
