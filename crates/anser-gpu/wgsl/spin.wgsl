// Computes without reading memory, to find out how many workgroups run at the same time.

override WORKGROUP: u32;

@group(0) @binding(0) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) thread: u32) {
    var x = vec4(f32(thread), 1.0, 2.0, 3.0);
    for (var i = 0u; i < 4096u; i++) {
        x = fma(x, vec4(0.9999), vec4(0.5));
    }
    // It never is: the numbers approach 5000. A compiler does not know that.
    if x.x + x.y < 0.0 {
        out[0] = x.z;
    }
}
