// value_head: value[r] = sum over c of h[r, c] * weight[c] + bias
// One workgroup a row.

struct Params {
    rows: u32,
    cols: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> h: array<element>; // [rows, cols]
@group(0) @binding(1) var<storage, read> weight: array<element>; // [cols]
@group(0) @binding(2) var<storage, read> bias: array<f32>; // [1]
@group(0) @binding(3) var<storage, read_write> value: array<f32>; // [rows]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, lane: Lane) {
    let row = linear(workgroup);
    if (row >= params.rows) {
        return;
    }
    let width = params.cols / WIDTH;
    var products = 0.0;
    for (var c = lane.index; c < width; c += LANES) {
        products += total(h[row * width + c] * weight[c]);
    }
    let sum = row_sum(products, lane);
    if (lane.index == 0u) {
        value[row] = sum + bias[0];
    }
}
