// Tiles of 32 rows (tokens) by 32 columns in workgroup memory, for 64 invocations as 8 x 8: the invocation (ty, tx)
// owns the rows 4 ty .. 4 ty + 3 and the columns 4 tx .. 4 tx + 3 of a product.
const TILE = 32u;
const QUADS = 8u; // groups of four columns in a tile
const PITCH = 9u; // from row to row, in groups of four: odd, so that rows lie in different banks
override HEAD_DIM = 64u; // at most 256: eight chunks of 32 columns

var<workgroup> left: array<vec4<f32>, 288>;
var<workgroup> right: array<vec4<f32>, 288>;
var<workgroup> scores: array<vec4<f32>, 288>;

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
        right[row * PITCH + quad] = fetch_quad(head, first_token + row, chunk, quad);
    }
}

// As load_right, with zeros after the last column: a product of left and right is then right in every column.
fn load_left(head: Head, first_token: u32, chunk: u32, lane: u32) {
    for (var i = lane; i < TILE * QUADS; i += 64u) {
        let row = i / QUADS;
        let quad = i % QUADS;
        let value = fetch_quad(head, first_token + row, chunk, quad);
        left[row * PITCH + quad] = select(vec4(0.0), value, in_head(chunk, quad));
    }
}

fn in_head(chunk: u32, quad: u32) -> bool {
    return chunk * QUADS + quad < HEAD_DIM / 4u;
}

// product[r] += the dot products of row (4 ty + r) of a's tile with the rows (4 tx ..) of b's, over all of a head's columns.
fn multiply_rows(product: ptr<function, array<vec4<f32>, 4>>, a: Head, first_a: u32, b: Head, first_b: u32, lane: u32) {
    let first_row = lane / 8u * 4u * PITCH;
    let first_column = lane % 8u * 4u * PITCH;
    for (var chunk = 0u; chunk < chunks(); chunk += 1u) {
        load_left(a, first_a, chunk, lane);
        load_right(b, first_b, chunk, lane);
        workgroupBarrier();
        for (var c = 0u; c < QUADS; c += 1u) {
            let b0 = right[first_column + c];
            let b1 = right[first_column + PITCH + c];
            let b2 = right[first_column + 2u * PITCH + c];
            let b3 = right[first_column + 3u * PITCH + c];
            for (var r = 0u; r < 4u; r += 1u) {
                let row = left[first_row + r * PITCH + c];
                (*product)[r] += vec4(dot(row, b0), dot(row, b1), dot(row, b2), dot(row, b3));
            }
        }
        workgroupBarrier();
    }
}

// sums[4 chunk + r] += row (4 ty + r) of the scores x b's tile, for each chunk of its columns. The scores are written before
// the call, each by the invocation that owns it.
fn multiply_scores(sums: ptr<function, array<vec4<f32>, 32>>, b: Head, first_b: u32, lane: u32) {
    let first_row = lane / 8u * 4u * PITCH;
    let column = lane % 8u;
    for (var chunk = 0u; chunk < chunks(); chunk += 1u) {
        load_right(b, first_b, chunk, lane);
        workgroupBarrier();
        for (var c = 0u; c < QUADS; c += 1u) {
            let b0 = right[(4u * c) * PITCH + column];
            let b1 = right[(4u * c + 1u) * PITCH + column];
            let b2 = right[(4u * c + 2u) * PITCH + column];
            let b3 = right[(4u * c + 3u) * PITCH + column];
            for (var r = 0u; r < 4u; r += 1u) {
                let p = scores[first_row + r * PITCH + c];
                (*sums)[4u * chunk + r] += p.x * b0 + p.y * b1 + p.z * b2 + p.w * b3;
            }
        }
        workgroupBarrier();
    }
}
