// The number of a workgroup in a grid that is folded at GRID_WIDTH (no dimension may exceed 65535).
const GRID_WIDTH = 32768u;

fn linear(workgroup: vec3<u32>) -> u32 {
    return workgroup.y * GRID_WIDTH + workgroup.x;
}
