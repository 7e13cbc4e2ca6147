// What products in tiles share: which tile a workgroup has, and where the steps over k read.
const GROUP_ROWS = 8u;

// The tile of a workgroup: GROUP_ROWS rows of tiles are walked column by column, so that the workgroups that run together share
// what they read.
fn tile_of(workgroup: vec2<u32>, grid: vec2<u32>) -> vec2<u32> {
    let index = workgroup.y * grid.x + workgroup.x;
    let first = index / (GROUP_ROWS * grid.x) * GROUP_ROWS;
    let within = index - first * grid.x;
    let rows = min(GROUP_ROWS, grid.y - first);
    return vec2(within / rows, first + within % rows);
}

// Whether k is in the range; k may have wrapped below 0.
fn is_within(k: u32, range: vec2<u32>) -> bool {
    return k - range.x < range.y - range.x;
}

// How far what a step reads is beyond what the second one does.
fn left_beyond(k: u32) -> u32 {
    return left_place(0u, k) - left_place(0u, 0u);
}

fn right_beyond(k: u32) -> u32 {
    return right_place(0u, k) - right_place(0u, 0u);
}
