// sum_squares: partial[first_partial + b] = sum of x[i]^2 over block b, of BLOCK values
// One workgroup a block; the host adds the blocks up in f64.

const BLOCK = 16384u;

struct Params {
    count: u32,
    first_partial: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [count]
@group(0) @binding(1) var<storage, read_write> partials: array<f32>; // [any]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, lane: Lane) {
    let block = linear(workgroup);
    let first = block * BLOCK;
    if (first >= params.count) {
        return;
    }
    var squares = vec4(0.0);
    for (var i = first + 4u * lane.index; i < min(first + BLOCK, params.count); i += 4u * LANES) {
        let inside = vec4(i, i + 1u, i + 2u, i + 3u) < vec4(params.count);
        let value = select(vec4(0.0), x[i / 4u], inside);
        squares = fma(value, value, squares);
    }
    let sum = row_sum(dot(squares, vec4(1.0)), lane);
    if (lane.index == 0u) {
        partials[params.first_partial + block] = sum;
    }
}
