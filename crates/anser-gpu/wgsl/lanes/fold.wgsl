// Eight sums of each of eight neighbouring threads become one sum for each of them. Subgroups have at least eight threads.

// The sum over the threads of number `lane % 8`, of low and then high: a thread gives half of its sums to the one at a distance,
// which gives it the other half of its own.
fn fold(low: vec4<f32>, high: vec4<f32>, lane: u32) -> f32 {
    let is_upper = vec3<bool>((lane & 4u) != 0u, (lane & 2u) != 0u, (lane & 1u) != 0u);
    let four = select(low, high, is_upper.x) + subgroupShuffleXor(select(high, low, is_upper.x), 4u);
    let two = select(four.xy, four.zw, is_upper.y) + subgroupShuffleXor(select(four.zw, four.xy, is_upper.y), 2u);
    return select(two.x, two.y, is_upper.z) + subgroupShuffleXor(select(two.y, two.x, is_upper.z), 1u);
}
