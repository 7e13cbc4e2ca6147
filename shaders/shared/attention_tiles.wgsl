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

// Group `quad` of chunk `chunk` of a token's head. After the last token and the last column it is something valid
// that is not used.
fn fetch_quad(source: u32, token: u32, head: u32, chunk: u32, quad: u32) -> vec4<f32> {
    let heads = select(params.kv_heads, params.heads, source <= DOUT);
    let column = min(chunk * QUADS + quad, HEAD_DIM / 4u - 1u);
    return fetch(source, (min(token, params.tokens - 1u) * heads + head) * (HEAD_DIM / 4u) + column);
}

fn load_right(source: u32, first_token: u32, head: u32, chunk: u32, lane: u32) {
    for (var i = lane; i < TILE * QUADS; i += 64u) {
        let row = i / QUADS;
        let quad = i % QUADS;
        right[row * PITCH + quad] = fetch_quad(source, first_token + row, head, chunk, quad);
    }
}

// As load_right, with zeros after the last column: a product of left and right is then right in every column.
fn load_left(source: u32, first_token: u32, head: u32, chunk: u32, lane: u32) {
    for (var i = lane; i < TILE * QUADS; i += 64u) {
        let row = i / QUADS;
        let quad = i % QUADS;
        let value = fetch_quad(source, first_token + row, head, chunk, quad);
        left[row * PITCH + quad] = select(vec4(0.0), value, in_head(chunk, quad));
    }
}

fn in_head(chunk: u32, quad: u32) -> bool {
    return chunk * QUADS + quad < HEAD_DIM / 4u;
}

// product[r] += left rows (4 ty + r) . right rows (4 tx ..), over one chunk of columns
fn multiply_transposed(product: ptr<function, array<vec4<f32>, 4>>, ty: u32, tx: u32) {
    for (var c = 0u; c < QUADS; c += 1u) {
        let b0 = right[(4u * tx) * PITCH + c];
        let b1 = right[(4u * tx + 1u) * PITCH + c];
        let b2 = right[(4u * tx + 2u) * PITCH + c];
        let b3 = right[(4u * tx + 3u) * PITCH + c];
        for (var r = 0u; r < 4u; r += 1u) {
            let a = left[(4u * ty + r) * PITCH + c];
            (*product)[r] += vec4(dot(a, b0), dot(a, b1), dot(a, b2), dot(a, b3));
        }
    }
}

// sums[4 chunk + r] += scores row (4 ty + r) x right, over the tile's 32 rows of `right`
fn multiply_scores(sums: ptr<function, array<vec4<f32>, 32>>, chunk: u32, ty: u32, tx: u32) {
    for (var c = 0u; c < QUADS; c += 1u) {
        let b0 = right[(4u * c) * PITCH + tx];
        let b1 = right[(4u * c + 1u) * PITCH + tx];
        let b2 = right[(4u * c + 2u) * PITCH + tx];
        let b3 = right[(4u * c + 3u) * PITCH + tx];
        for (var r = 0u; r < 4u; r += 1u) {
            let p = scores[(4u * ty + r) * PITCH + c];
            (*sums)[4u * chunk + r] += p.x * b0 + p.y * b1 + p.z * b2 + p.w * b3;
        }
    }
}
