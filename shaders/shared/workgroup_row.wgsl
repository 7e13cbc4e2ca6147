// A row belongs to a workgroup of any size that is a power of two: its lanes reduce through workgroup memory.
override LANES = 64u;
var<workgroup> row_values: array<f32, LANES>;

fn row_sum(value: f32, lane: u32) -> f32 {
    row_values[lane] = value;
    workgroupBarrier();
    for (var span = LANES / 2u; span > 0u; span /= 2u) {
        if (lane < span) {
            row_values[lane] += row_values[lane + span];
        }
        workgroupBarrier();
    }
    let sum = row_values[0];
    workgroupBarrier();
    return sum;
}

fn row_max(value: f32, lane: u32) -> f32 {
    row_values[lane] = value;
    workgroupBarrier();
    for (var span = LANES / 2u; span > 0u; span /= 2u) {
        if (lane < span) {
            row_values[lane] = max(row_values[lane], row_values[lane + span]);
        }
        workgroupBarrier();
    }
    let largest = row_values[0];
    workgroupBarrier();
    return largest;
}
