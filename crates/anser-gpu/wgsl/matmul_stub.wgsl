override N_ROWS: u32;
override N_COLS: u32;
@group(0) @binding(0) var<storage, read> w: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> residual: array<f32>;
@group(0) @binding(4) var<uniform> c: vec4<u32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

fn sigmoid(z: f32) -> f32 { return 1.0 / (1.0 + exp(-z)); }

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = c.x + id.x;
    if row >= c.y { return; }
    var z = 0.0;
    for (var i = 0u; i < N_COLS; i++) { z += w[id.x * N_COLS + i] * x[id.y * N_COLS + i]; }
    if (c.z & 1u) != 0u { z += bias[row]; }
    switch c.z >> 2u {
        case 1u: { z = tanh(z); }
        case 2u: { z = sigmoid(z); }
        case 3u: { z = max(z, 0.0) * max(z, 0.0); }
        case 4u: { z = exp(-0.606531 * sigmoid(z)); }
        default: {}
    }
    if (c.z & 2u) != 0u { z += residual[id.y * N_ROWS + row]; }
    out[id.y * N_ROWS + row] = z;
}
