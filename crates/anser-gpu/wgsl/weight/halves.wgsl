// Weights as halves, from their values.

fn unit_halves(unit: Unit, u: u32, p: u32) -> HalfPiece {
    let values = unit_values(unit, u, p);
    return HalfPiece(vec4<f16>(values.a), vec4<f16>(values.b), vec4<f16>(values.c), vec4<f16>(values.d));
}
