// column_sum: sums[b, c] (+)= sum over the rows r of block b of x[r, c]

struct Params {
    rows: u32,
    cols: u32,
    block_rows: u32,
    accumulate: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<element>; // [rows, cols]
@group(0) @binding(1) var<storage, read_write> sums: array<element>; // [ceil(rows / block_rows), cols]

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
        sum += x[row * width + block.column];
    }
    if (params.accumulate != 0u) {
        sums[index] += sum;
    } else {
        sums[index] = sum;
    }
}
