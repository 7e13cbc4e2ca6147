// attention_backward_delta: delta[i, h] = o[i, h, :] . do[i, h, :], beside the lse of its row:
//   row_statistics[i, h] = (lse, delta)
// (delta is the mean of dp = do . v under the softmax, which its backward pass subtracts.) One workgroup a row (i, h).

struct Params {
    rows: u32,
    head_dim: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> o: array<vec4<f32>>; // [rows, head_dim]
@group(0) @binding(1) var<storage, read> dout: array<vec4<f32>>; // [rows, head_dim]
@group(0) @binding(2) var<storage, read> lse: array<f32>; // [rows]
@group(0) @binding(3) var<storage, read_write> row_statistics: array<vec2<f32>>; // [rows, 2]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, lane: Lane) {
    let row = linear(workgroup);
    if (row >= params.rows) {
        return;
    }
    let width = params.head_dim / 4u;
    var products = 0.0;
    for (var c = lane.index; c < width; c += LANES) {
        products += dot(o[row * width + c], dout[row * width + c]);
    }
    let delta = row_sum(products, lane);
    if (lane.index == 0u) {
        row_statistics[row] = vec2(lse[row], delta);
    }
}
