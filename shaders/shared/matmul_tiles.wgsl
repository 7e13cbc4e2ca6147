// The matrix product for GPUs: a workgroup computes ROWS x COLS outputs from tiles of DEPTH k in workgroup memory, an
// invocation 8 x 8 of them, as 2 x 2 blocks of 4 x 4. While a tile is multiplied, the next one is on its way into registers.
// Every output is one chain of fma in ascending k, as in matmul_lanes.wgsl.
override ROWS = 64u;
override COLS = 64u;
override THREADS = 64u; // ROWS * COLS / 64
override TILE_QUADS = 512u; // DEPTH * (ROWS + COLS) / 4
override RIGHT_TILE = 256u; // DEPTH * ROWS / 4
override BLOCKS = 2u; // 4 x 4 blocks of both tiles that an invocation brings: (ROWS + COLS) / THREADS, rounded up
override EARLY_BLOCKS = 2u; // of these, those that are on their way while the tile before is multiplied
const MAX_EARLY_BLOCKS = 2u;
const DEPTH = 16u;
const GROUP_ROWS = 8u;

// The left tile [DEPTH, ROWS / 4], then the right one [DEPTH, COLS / 4]: four rows (or columns) at one k in a vector.
var<workgroup> tiles: array<vec4<f32>, TILE_QUADS>;

// Where a quad lies in its tile of `quads`. The four k-groups of a block of rows are written at the same time: the permutation
// lets them meet in no bank.
fn place(k: u32, quad: u32, quads: u32) -> u32 {
    return k * quads + (quad ^ (2u * (k / 4u)));
}

// The first k and the quad of block number `block` of a tile, so that neighbouring invocations read neighbouring values:
// `along_k` is whether consecutive k lie side by side in memory.
fn block_at(block: u32, quads: u32, along_k: bool) -> vec2<u32> {
    if (along_k) {
        return vec2(4u * (block % 4u), block / 4u);
    }
    return vec2(4u * (block / quads), block % quads);
}

fn load(block: u32, first_row: u32, first_col: u32, first_k: u32) -> mat4x4<f32> {
    if (block < ROWS) {
        let at = block_at(block, ROWS / 4u, LEFT_ALONG_K);
        return left_at(first_row + 4u * at.y, first_k + at.x);
    }
    if (block < ROWS + COLS) {
        let at = block_at(block - ROWS, COLS / 4u, RIGHT_ALONG_K);
        return right_at(first_col + 4u * at.y, first_k + at.x);
    }
    return mat4x4<f32>();
}

fn keep(block: u32, values: mat4x4<f32>) {
    if (block < ROWS) {
        let at = block_at(block, ROWS / 4u, LEFT_ALONG_K);
        for (var d = 0u; d < 4u; d += 1u) {
            tiles[place(at.x + d, at.y, ROWS / 4u)] = values[d];
        }
    } else if (block < ROWS + COLS) {
        let at = block_at(block - ROWS, COLS / 4u, RIGHT_ALONG_K);
        for (var d = 0u; d < 4u; d += 1u) {
            tiles[RIGHT_TILE + place(at.x + d, at.y, COLS / 4u)] = values[d];
        }
    }
}

// The tile of a workgroup: GROUP_ROWS rows of tiles are walked column by column, so that the workgroups that run together share
// what they read.
fn tile_of(workgroup: vec2<u32>, grid: vec2<u32>) -> vec2<u32> {
    let index = workgroup.y * grid.x + workgroup.x;
    let first = index / (GROUP_ROWS * grid.x) * GROUP_ROWS;
    let within = index - first * grid.x;
    let rows = min(GROUP_ROWS, grid.y - first);
    return vec2(within / rows, first + within % rows);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let size = vec2(COLS, ROWS);
    let corner = corner_of(tile_of(workgroup.xy, grid_of(size)), size);
    let first_row = corner.y;
    let first_col = corner.x;
    let range = k_range(workgroup.z);
    let tx = lane % (COLS / 8u);
    let ty = lane / (COLS / 8u);

    var sums: array<vec4<f32>, 16>; // [row, half of the columns]
    var next: array<mat4x4<f32>, MAX_EARLY_BLOCKS>;
    enter(range.x);
    for (var i = 0u; i < EARLY_BLOCKS; i += 1u) {
        next[i] = load(lane + i * THREADS, first_row, first_col, range.x);
    }
    for (var k = range.x; k < range.y; k += DEPTH) {
        for (var i = 0u; i < EARLY_BLOCKS; i += 1u) {
            keep(lane + i * THREADS, next[i]);
        }
        for (var i = EARLY_BLOCKS; i < BLOCKS; i += 1u) {
            keep(lane + i * THREADS, load(lane + i * THREADS, first_row, first_col, k));
        }
        workgroupBarrier();
        if (k + DEPTH < range.y) {
            enter(k + DEPTH);
            for (var i = 0u; i < EARLY_BLOCKS; i += 1u) {
                next[i] = load(lane + i * THREADS, first_row, first_col, k + DEPTH);
            }
        }
        for (var d = 0u; d < DEPTH; d += 1u) {
            let a0 = tiles[place(d, ty, ROWS / 4u)];
            let a1 = tiles[place(d, ty + ROWS / 8u, ROWS / 4u)];
            let b0 = tiles[RIGHT_TILE + place(d, tx, COLS / 4u)];
            let b1 = tiles[RIGHT_TILE + place(d, tx + COLS / 8u, COLS / 4u)];
            for (var r = 0u; r < 4u; r += 1u) {
                sums[2u * r] = fma(vec4(a0[r]), b0, sums[2u * r]);
                sums[2u * r + 1u] = fma(vec4(a0[r]), b1, sums[2u * r + 1u]);
                sums[8u + 2u * r] = fma(vec4(a1[r]), b0, sums[8u + 2u * r]);
                sums[9u + 2u * r] = fma(vec4(a1[r]), b1, sums[9u + 2u * r]);
            }
        }
        workgroupBarrier();
    }
    for (var r = 0u; r < 8u; r += 1u) {
        let row = first_row + (r / 4u) * (ROWS / 2u) + 4u * ty + r % 4u;
        store(row, first_col + 4u * tx, workgroup.z, sums[2u * r]);
        store(row, first_col + COLS / 2u + 4u * tx, workgroup.z, sums[2u * r + 1u]);
    }
}
