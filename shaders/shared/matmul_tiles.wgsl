// The matrix product for GPUs: a workgroup computes TILE x TILE outputs from tiles of TILE x DEPTH in workgroup memory,
// an invocation 8 x 8 of them, as 2 x 2 blocks of 4 x 4. Every output is one chain of fma in ascending k, as in
// matmul_lanes.wgsl.
override TILE = 64u;
override THREADS = 64u; // TILE * TILE / 64
override QUADS = 16u; // TILE / 4
override TILE_WORDS = 512u; // 2 * DEPTH * QUADS
const DEPTH = 16u;

// Left, then right: [DEPTH, QUADS], the four rows (or columns) of a quad at one k in a vector.
var<workgroup> tiles: array<vec4<f32>, TILE_WORDS>;

fn place(side: u32, k: u32, quad: u32) -> u32 {
    return (side * DEPTH + k) * QUADS + quad;
}

fn store(side: u32, k: u32, quad: u32, block: mat4x4<f32>) {
    tiles[place(side, k, quad)] = block[0];
    tiles[place(side, k + 1u, quad)] = block[1];
    tiles[place(side, k + 2u, quad)] = block[2];
    tiles[place(side, k + 3u, quad)] = block[3];
}

// The first k and the quad of block number `block` of a tile, so that neighbouring invocations read neighbouring values:
// `along_k` is whether consecutive k lie side by side in memory.
fn block_at(block: u32, along_k: bool) -> vec2<u32> {
    if (along_k) {
        return vec2(4u * (block % 4u), block / 4u);
    }
    return vec2(4u * (block / QUADS), block % QUADS);
}

fn fill(first_row: u32, first_col: u32, first_k: u32, block: u32) {
    let left = block_at(block, !A_TRANSPOSED);
    let right = block_at(block, B_TRANSPOSED);
    if (first_k + left.x < params.inner) {
        store(0u, left.x, left.y, left_at(first_row + 4u * left.y, first_k + left.x));
    } else {
        store(0u, left.x, left.y, mat4x4<f32>());
    }
    if (first_k + right.x < params.inner) {
        store(1u, right.x, right.y, right_at(first_col + 4u * right.y, first_k + right.x));
    } else {
        store(1u, right.x, right.y, mat4x4<f32>());
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_row = workgroup.y * TILE;
    let first_col = workgroup.x * TILE;
    let tx = lane % (TILE / 8u);
    let ty = lane / (TILE / 8u);

    var sums: array<vec4<f32>, 16>; // [row, half of the columns]
    for (var k = 0u; k < params.inner; k += DEPTH) {
        for (var block = lane; block < TILE; block += THREADS) {
            fill(first_row, first_col, k, block);
        }
        workgroupBarrier();
        for (var d = 0u; d < DEPTH; d += 1u) {
            let a0 = tiles[place(0u, d, ty)];
            let a1 = tiles[place(0u, d, ty + TILE / 8u)];
            let b0 = tiles[place(1u, d, tx)];
            let b1 = tiles[place(1u, d, tx + TILE / 8u)];
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
        let row = first_row + (r / 4u) * (TILE / 2u) + 4u * ty + r % 4u;
        for (var half = 0u; half < 2u; half += 1u) {
            let col = first_col + half * (TILE / 2u) + 4u * tx;
            if (row < params.rows && col < params.cols) {
                let place = (params.c_offset + row * params.c_stride + col) / 4u;
                let sum = sums[2u * r + half];
                if (params.accumulate != 0u) {
                    c[place] += sum;
                } else {
                    c[place] = sum;
                }
            }
        }
    }
}
