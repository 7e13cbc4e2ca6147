// The matrix product for GPUs: a workgroup computes TILE x TILE outputs from tiles of TILE x DEPTH in workgroup memory,
// an invocation 8 x 8 of them, as 2 x 2 blocks of 4 x 4. Every output is one chain of fma in ascending k, so that all
// variants agree to the bit. The kernel's own file has the operands: fill_left and fill_right.
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

// Four rows of four consecutive k, into four k of four rows.
fn store_transposed(side: u32, k: u32, quad: u32, r0: vec4<f32>, r1: vec4<f32>, r2: vec4<f32>, r3: vec4<f32>) {
    tiles[place(side, k, quad)] = vec4(r0.x, r1.x, r2.x, r3.x);
    tiles[place(side, k + 1u, quad)] = vec4(r0.y, r1.y, r2.y, r3.y);
    tiles[place(side, k + 2u, quad)] = vec4(r0.z, r1.z, r2.z, r3.z);
    tiles[place(side, k + 3u, quad)] = vec4(r0.w, r1.w, r2.w, r3.w);
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
            fill_left(first_row, k, block);
            fill_right(first_col, k, block);
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
