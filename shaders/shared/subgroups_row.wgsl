// A row belongs to a workgroup of subgroups of any size: each reduces over its lanes, then the workgroup over them in order.
override LANES = 64u;
var<workgroup> subgroup_values: array<f32, LANES>; // one a subgroup, of which there are at most as many as lanes

struct Lane {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_invocation_id) in_subgroup: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
}

fn row_sum(value: f32, lane: Lane) -> f32 {
    share(subgroupAdd(value), lane);
    var sum = subgroup_values[0];
    for (var i = 1u; i < lane.subgroups; i += 1u) {
        sum += subgroup_values[i];
    }
    workgroupBarrier();
    return sum;
}

fn row_max(value: f32, lane: Lane) -> f32 {
    share(subgroupMax(value), lane);
    var largest = subgroup_values[0];
    for (var i = 1u; i < lane.subgroups; i += 1u) {
        largest = max(largest, subgroup_values[i]);
    }
    workgroupBarrier();
    return largest;
}

// Shows the workgroup what a subgroup has.
fn share(value: f32, lane: Lane) {
    if (lane.in_subgroup == 0u) {
        subgroup_values[lane.subgroup] = value;
    }
    workgroupBarrier();
}
