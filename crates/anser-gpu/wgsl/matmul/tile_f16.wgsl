// Tiles in workgroup memory as f16: half the memory, and half the traffic to and from it. Sums stay f32. Values beyond
// ±65504 saturate.

alias TileVec = vec4<f16>;

fn tile_vec(v: vec4<f32>) -> TileVec {
    return TileVec(clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}
