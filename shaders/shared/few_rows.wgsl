// What products of few rows by a transposed matrix share. A workgroup has two halves, and each has four columns: SHARE
// invocations, of which each sums every SHARE-th group of four k of all rows; a tree adds up what they have.
const SHARE = 32u;
const LANES = 64u; // 2 * SHARE

var<workgroup> row_sums: array<vec4<f32>, FEW_ROWS * LANES>; // [FEW_ROWS, LANES]

// The first column and row of a workgroup's tile: all rows of a few columns, then the next columns, so that what follows finds the
// weights in a cache.
fn corner_at(workgroup: vec3<u32>, size: vec2<u32>) -> vec2<u32> {
    let grid = grid_of(size);
    let index = workgroup.y * grid.x + workgroup.x;
    return corner_of(vec2(index / grid.y, index % grid.y), size);
}

// The four columns from `col` on, at the k of a quad: column d is at k + d.
fn right_at(col: u32, k: u32) -> mat4x4<f32> {
    return transpose(mat4x4(
        unpack(right_quad(right_place(col, k))),
        unpack(right_quad(right_place(col + 1u, k))),
        unpack(right_quad(right_place(col + 2u, k))),
        unpack(right_quad(right_place(col + 3u, k))),
    ));
}
