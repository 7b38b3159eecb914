// Tiles in workgroup memory as f32.

alias TileVec = vec4<f32>;

fn tile_vec(v: vec4<f32>) -> TileVec {
    return v;
}
