// fma_peak: the adapter's rate of fused multiply-adds, with nothing else in the way: eight independent chains of
// vec4 an invocation, 2 * 32 floating-point operations an iteration.

struct Params {
    iterations: u32,
    factor: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> result: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let index = workgroup.x * 64u + lane;
    let step = vec4(f32(lane)) * 1e-9;
    let factor = vec4(params.factor);
    var a = step;
    var b = step + 1.0;
    var c = step + 2.0;
    var d = step + 3.0;
    var e = step + 4.0;
    var f = step + 5.0;
    var g = step + 6.0;
    var h = step + 7.0;
    for (var i = 0u; i < params.iterations; i += 1u) {
        a = fma(a, factor, step);
        b = fma(b, factor, step);
        c = fma(c, factor, step);
        d = fma(d, factor, step);
        e = fma(e, factor, step);
        f = fma(f, factor, step);
        g = fma(g, factor, step);
        h = fma(h, factor, step);
    }
    result[index] = ((a + b) + (c + d)) + ((e + f) + (g + h));
}
