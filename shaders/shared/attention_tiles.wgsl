// Tiles of 32 rows (tokens) by 32 columns in workgroup memory, for 64 invocations as 8 x 8: the invocation (ty, tx)
// owns the rows 4 ty .. 4 ty + 3 and the columns 4 tx .. 4 tx + 3 of a product.
const TILE = 32u;
const QUADS = 8u; // groups of four columns in a tile
override HEAD_DIM = 64u; // at most 256: eight chunks of 32 columns

// Tiles by `place`. The left one has scores, too, once it has been multiplied; the right one is free then.
var<workgroup> left: array<vec4<f32>, 256>;
var<workgroup> right: array<vec4<f32>, 256>;

// Where a group of four columns of a tile's row is. Four rows are read at once, and eight invocations read every fourth row:
// groups change places from four rows to the next, so that these lie in different banks.
fn place(row: u32, quad: u32) -> u32 {
    return row * QUADS + (quad ^ (row / 4u % QUADS));
}

// QUADS, as a bound that no compiler sees through: unrolled, a loop over it has its loads first, which takes the registers that
// other workgroups would have.
fn quads() -> u32 {
    return QUADS * min(params.tokens, 1u);
}

fn chunks() -> u32 {
    return (HEAD_DIM + TILE - 1u) / TILE;
}

// What a tile is loaded from; `fetch(source, index)` is the kernel's.
const Q = 0u; // [tokens, heads, HEAD_DIM]
const DOUT = 1u; // [tokens, heads, HEAD_DIM]
const K = 2u; // [tokens, kv_heads, HEAD_DIM]
const V = 3u; // [tokens, kv_heads, HEAD_DIM]

// One head of a source; a tile is 32 of its rows.
struct Head {
    source: u32,
    index: u32,
}

// Group `quad` of chunk `chunk` of a token. After the last token and the last column it is something valid that is not
// used.
fn fetch_quad(head: Head, token: u32, chunk: u32, quad: u32) -> vec4<f32> {
    let heads = select(params.kv_heads, params.heads, head.source <= DOUT);
    let column = min(chunk * QUADS + quad, HEAD_DIM / 4u - 1u);
    return fetch(head.source, (min(token, params.tokens - 1u) * heads + head.index) * (HEAD_DIM / 4u) + column);
}

fn load_right(head: Head, first_token: u32, chunk: u32, lane: u32) {
    for (var i = lane; i < TILE * QUADS; i += 64u) {
        let row = i / QUADS;
        let quad = i % QUADS;
        right[place(row, quad)] = fetch_quad(head, first_token + row, chunk, quad);
    }
}

// As load_right, with zeros after the last column: a product of left and right is then right in every column.
fn load_left(head: Head, first_token: u32, chunk: u32, lane: u32) {
    for (var i = lane; i < TILE * QUADS; i += 64u) {
        let row = i / QUADS;
        let quad = i % QUADS;
        let value = fetch_quad(head, first_token + row, chunk, quad);
        left[place(row, quad)] = select(vec4(0.0), value, in_head(chunk, quad));
    }
}

fn in_head(chunk: u32, quad: u32) -> bool {
    return chunk * QUADS + quad < HEAD_DIM / 4u;
}

// product[r] += the dot products of row (4 ty + r) of a's tile with the rows (4 tx ..) of b's, over all of a head's columns.
fn multiply_rows(product: ptr<function, array<vec4<f32>, 4>>, a: Head, first_a: u32, b: Head, first_b: u32, lane: u32) {
    let first_row = lane / 8u * 4u;
    let first_column = lane % 8u * 4u;
    for (var chunk = 0u; chunk < chunks(); chunk += 1u) {
        load_left(a, first_a, chunk, lane);
        load_right(b, first_b, chunk, lane);
        workgroupBarrier();
        var sums: Rows; // of this chunk: short chains of additions round less
        for (var c = 0u; c < quads(); c += 1u) {
            let b0 = right[place(first_column, c)];
            let b1 = right[place(first_column + 1u, c)];
            let b2 = right[place(first_column + 2u, c)];
            let b3 = right[place(first_column + 3u, c)];
            for (var r = 0u; r < 4u; r += 1u) {
                let row = left[place(first_row + r, c)];
                let sum = sums[r];
                sums[r] = vec4(
                    add_dot(row, b0, sum.x), add_dot(row, b1, sum.y), add_dot(row, b2, sum.z), add_dot(row, b3, sum.w)
                );
            }
        }
        for (var r = 0u; r < 4u; r += 1u) {
            (*product)[r] += sums[r];
        }
        workgroupBarrier();
    }
}

// sum + a . b, as a chain: an instruction a product.
fn add_dot(a: vec4<f32>, b: vec4<f32>, sum: f32) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

// An invocation's part of a product that is as wide as a head: four rows of four columns in each chunk.
alias Rows = array<vec4<f32>, 4>;
alias Sums = array<Rows, 8>;

// sums[chunk][r] += row (4 ty + r) of the scores x b's tile, for each chunk of its columns. The scores are in the left tile
// before the call, each by the invocation that owns it.
// Chunk by chunk and not in a loop, as the results are written row by row: what is indexed by a variable is in memory and
// not in registers, and not every compiler unrolls these loops.
fn multiply_scores(sums: ptr<function, Sums>, b: Head, first_b: u32, lane: u32) {
    (*sums)[0] = multiply_chunk((*sums)[0], b, first_b, 0u, lane);
    if (chunks() > 1u) {
        (*sums)[1] = multiply_chunk((*sums)[1], b, first_b, 1u, lane);
    }
    if (chunks() > 2u) {
        (*sums)[2] = multiply_chunk((*sums)[2], b, first_b, 2u, lane);
    }
    if (chunks() > 3u) {
        (*sums)[3] = multiply_chunk((*sums)[3], b, first_b, 3u, lane);
    }
    if (chunks() > 4u) {
        (*sums)[4] = multiply_chunk((*sums)[4], b, first_b, 4u, lane);
    }
    if (chunks() > 5u) {
        (*sums)[5] = multiply_chunk((*sums)[5], b, first_b, 5u, lane);
    }
    if (chunks() > 6u) {
        (*sums)[6] = multiply_chunk((*sums)[6], b, first_b, 6u, lane);
    }
    if (chunks() > 7u) {
        (*sums)[7] = multiply_chunk((*sums)[7], b, first_b, 7u, lane);
    }
}

fn multiply_chunk(before: Rows, b: Head, first_b: u32, chunk: u32, lane: u32) -> Rows {
    let first_row = lane / 8u * 4u;
    let column = lane % 8u;
    var sums = before;
    load_right(b, first_b, chunk, lane);
    workgroupBarrier();
    for (var c = 0u; c < quads(); c += 1u) {
        let b0 = right[place(4u * c, column)];
        let b1 = right[place(4u * c + 1u, column)];
        let b2 = right[place(4u * c + 2u, column)];
        let b3 = right[place(4u * c + 3u, column)];
        for (var r = 0u; r < 4u; r += 1u) {
            let p = left[place(first_row + r, c)];
            sums[r] = fma(vec4(p.w), b3, fma(vec4(p.z), b2, fma(vec4(p.y), b1, fma(vec4(p.x), b0, sums[r]))));
        }
    }
    workgroupBarrier();
    return sums;
}
