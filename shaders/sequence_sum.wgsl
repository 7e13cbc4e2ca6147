// sequence_sum: sums[first_sequence + b] = sum over the positions t of sequence b of x[t]
// One workgroup a sequence; starts[b] .. starts[b + 1] are its positions.

struct Params {
    sequences: u32,
    first_sequence: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> starts: array<u32>; // [sequences + 1]
@group(0) @binding(1) var<storage, read> x: array<f32>; // [positions]
@group(0) @binding(2) var<storage, read_write> sums: array<f32>; // [any]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, lane: Lane) {
    let sequence = linear(workgroup);
    if (sequence >= params.sequences) {
        return;
    }
    var part = 0.0;
    for (var t = starts[sequence] + lane.index; t < starts[sequence + 1u]; t += LANES) {
        part += x[t];
    }
    let sum = row_sum(part, lane);
    if (lane.index == 0u) {
        sums[params.first_sequence + sequence] = sum;
    }
}
