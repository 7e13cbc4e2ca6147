// A row belongs to a workgroup that is exactly one subgroup: its lanes reduce without a barrier.
override LANES = 32u;

struct Lane {
    @builtin(local_invocation_index) index: u32,
}

fn row_sum(value: f32, lane: Lane) -> f32 {
    return subgroupAdd(value);
}

fn row_max(value: f32, lane: Lane) -> f32 {
    return subgroupMax(value);
}
