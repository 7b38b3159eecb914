// Tiles in workgroup memory as f32, of numbers rounded to halves: what cooperative matrices make of weights and inputs, on devices
// that have none, for tests. Follows halves.wgsl.

alias TileVec = vec4<f32>;

fn tile_vec(v: vec4<f32>) -> TileVec {
    return quantizeToF16(for_halves(v));
}
