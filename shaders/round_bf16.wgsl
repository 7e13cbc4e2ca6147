// round_bf16: y[i] = x[i] rounded to bf16, to nearest, ties to even; two to a u32, the first in the lower half.
// An invocation owns four values.

struct Params {
    count: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>; // [count], the bits of f32
@group(0) @binding(1) var<storage, read_write> y: array<vec2<u32>>; // [count], bf16

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = linear(workgroup) * 64u + lane;
    if (i * 4u < params.count) {
        let bits = x[i];
        let rounded = (bits + 0x7fffu + ((bits >> vec4(16u)) & vec4(1u))) >> vec4(16u);
        y[i] = rounded.xz | (rounded.yw << vec2(16u));
    }
}
