// value_head_backward: in the forward pass value = h . weight + bias.
//   dh[r, c] = dvalue[r] * weight[c]
//   partial[b, c] = sum over the rows r of block b of dvalue[r] * h[r, c]        (column_sum adds the blocks up)

struct Params {
    rows: u32,
    cols: u32,
    block_rows: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> h: array<element>; // [rows, cols]
@group(0) @binding(1) var<storage, read> weight: array<element>; // [cols]
@group(0) @binding(2) var<storage, read> dvalue: array<f32>; // [rows]
@group(0) @binding(3) var<storage, read_write> dh: array<element>; // [rows, cols]
@group(0) @binding(4) var<storage, read_write> partial: array<element>; // [ceil(rows / block_rows), cols]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let width = params.cols / WIDTH;
    let index = linear(workgroup) * 64u + lane;
    let block = block_of(index);
    if (block.first >= params.rows) {
        return;
    }
    var sum = element();
    for (var row = block.first; row < block.end; row += 1u) {
        dh[row * width + block.column] = dvalue[row] * weight[block.column];
        sum += dvalue[row] * h[row * width + block.column];
    }
    partial[index] = sum;
}
