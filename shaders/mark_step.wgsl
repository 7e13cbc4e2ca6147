// mark_step: marker[0] = step. The last dispatch of a step: what is read back proves that the ones before it ran.

struct Params {
    step: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> marker: array<u32>; // [1]

@compute @workgroup_size(1)
fn main() {
    marker[0] = params.step;
}
