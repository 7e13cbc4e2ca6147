// dropout: y[r, c] (+)= scale x[r, c] where hash(keys[first_key + r], site, c) is at least threshold, else 0
// An invocation owns four values.

struct Params {
    rows: u32,
    cols: u32,
    first_key: u32,
    site: u32,
    threshold: u32,
    scale: f32,
    accumulate: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> keys: array<u32>; // [any]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // [rows, cols]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>; // [rows, cols]

// Every bit of the result depends on every bit of x; a bijection.
fn mixed(x: vec4<u32>) -> vec4<u32> {
    var h = x;
    h = (h ^ (h >> vec4(16u))) * 0x7feb352du;
    h = (h ^ (h >> vec4(15u))) * 0x846ca68bu;
    return h ^ (h >> vec4(16u));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let width = params.cols / 4u;
    let i = linear(workgroup) * 64u + lane;
    if (i >= params.rows * width) {
        return;
    }
    let row = mixed(vec4(keys[params.first_key + i / width] ^ params.site)).x;
    let hash = mixed(vec4(row) + vec4(i % width * 4u) + vec4(0u, 1u, 2u, 3u));
    let kept = select(vec4(0.0), params.scale * x[i], hash >= vec4(params.threshold));
    y[i] = select(kept, y[i] + kept, params.accumulate != 0u);
}
