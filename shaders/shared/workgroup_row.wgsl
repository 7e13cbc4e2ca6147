// A row belongs to a workgroup of any size that is a power of two: its lanes reduce through workgroup memory.
override LANES = 64u;
var<workgroup> row_values: array<f32, LANES>;

struct Lane {
    @builtin(local_invocation_index) index: u32,
}

fn row_sum(value: f32, lane: Lane) -> f32 {
    row_values[lane.index] = value;
    workgroupBarrier();
    for (var span = LANES / 2u; span > 0u; span /= 2u) {
        if (lane.index < span) {
            row_values[lane.index] += row_values[lane.index + span];
        }
        workgroupBarrier();
    }
    let sum = row_values[0];
    workgroupBarrier();
    return sum;
}

fn row_max(value: f32, lane: Lane) -> f32 {
    row_values[lane.index] = value;
    workgroupBarrier();
    for (var span = LANES / 2u; span > 0u; span /= 2u) {
        if (lane.index < span) {
            row_values[lane.index] = max(row_values[lane.index], row_values[lane.index + span]);
        }
        workgroupBarrier();
    }
    let largest = row_values[0];
    workgroupBarrier();
    return largest;
}
