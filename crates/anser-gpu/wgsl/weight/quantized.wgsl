// Values of quantized weights, from the integers and scales that the dtype's file reads.

fn unit_values(unit: Unit, u: u32, p: u32) -> Piece {
    let q = unit_quants(unit, u, p);
    let scale = unit_scale(unit, u, p);
    return Piece(
        scale.x * vec4<f32>(unpack4xI8(q.x)) - scale.y,
        scale.x * vec4<f32>(unpack4xI8(q.y)) - scale.y,
        scale.x * vec4<f32>(unpack4xI8(q.z)) - scale.y,
        scale.x * vec4<f32>(unpack4xI8(q.w)) - scale.y,
    );
}
