// attention_combine: o[r, :] = sum_p w[p, r] outputs[p, r, :], with w[:, r] = softmax over the parts p of lse[p, r]
// An invocation owns four values. The parts are those of a row's keys that attention_cached has computed each by itself.

struct Params {
    parts: u32,
    rows: u32,
    cols: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> outputs: array<vec4<f32>>; // [parts, rows, cols]
@group(0) @binding(1) var<storage, read> lse: array<f32>; // [parts, rows]
@group(0) @binding(2) var<storage, read_write> o: array<vec4<f32>>; // [rows, cols]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let width = params.cols / 4u;
    let i = linear(workgroup) * 64u + lane;
    if (i >= params.rows * width) {
        return;
    }
    let row = i / width;
    var largest = lse[row];
    for (var p = 1u; p < params.parts; p += 1u) {
        largest = max(largest, lse[p * params.rows + row]);
    }
    var sum = 0.0;
    var result = vec4(0.0);
    for (var p = 0u; p < params.parts; p += 1u) {
        let weight = exp(min(lse[p * params.rows + row] - largest, 0.0));
        sum += weight;
        result = fma(vec4(weight), outputs[p * params.rows * width + i], result);
    }
    o[i] = result / sum;
}
