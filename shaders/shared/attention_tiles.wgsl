// Tiles of 32 rows (tokens) in workgroup memory, and the two products of them. Scores are 32 x 32: an invocation owns
// every eighth column of ROWS rows. Results are 32 rows of a head, in chunks: an invocation owns four columns of four
// rows in each. More invocations have fewer rows of scores and wider chunks, that is fewer registers.
alias operand = vec4<f32>;
const TILE = 32u;
const QUADS = 8u; // groups of four columns in 32
const ROWS = 256u / LANES; // 4 or 2
const ACROSS = LANES / 8u; // groups of four columns in a chunk of results: 8 or 16
override HEAD_DIM = 64u; // at most 256

// Groups from a row of 32 columns to the next: eight invocations read a group of eight rows, which lie in different
// banks.
const PITCH = 9u;

// Of 32 columns a row. The left one has scores, too, once it has been multiplied: group c of a row those of its columns
// c, c + 8, c + 16 and c + 24.
var<workgroup> left: array<vec4<f32>, TILE * PITCH>;
// Of 32 columns a row, or of a chunk of results, ACROSS groups a row.
var<workgroup> right: array<vec4<f32>, TILE * max(PITCH, ACROSS)>;

// An invocation's part of the scores: rows first_score_row(lane) .., columns own_columns(lane).
alias Scores = array<vec4<f32>, ROWS>;
// Its part of the results: rows first_row(lane) .., columns 4 (lane % ACROSS) .. of each chunk.
alias Rows = array<vec4<f32>, 4>;
alias Sums = array<Rows, 8>;

fn first_score_row(lane: u32) -> u32 {
    return lane / QUADS * ROWS;
}

fn own_columns(lane: u32) -> vec4<u32> {
    return vec4(0u, 8u, 16u, 24u) + lane % QUADS;
}

// Where an invocation's scores of a row stand in the left tile.
fn score_place(row: u32, lane: u32) -> u32 {
    return row * PITCH + lane % QUADS;
}

fn first_row(lane: u32) -> u32 {
    return lane / ACROSS * 4u;
}

// The chunks of results in a head.
fn chunks() -> u32 {
    return (HEAD_DIM / 4u + ACROSS - 1u) / ACROSS;
}

// QUADS, as a bound that no compiler sees through: unrolled, a loop over it has its loads first, which takes the
// registers that other workgroups would have.
fn quads() -> u32 {
    return QUADS * min(params.tokens, 1u);
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

// A group of four columns of a token. After the last token and the last column it is something valid that is not used.
fn fetch_quad(head: Head, token: u32, quad: u32) -> vec4<f32> {
    let heads = select(params.kv_heads, params.heads, head.source <= DOUT);
    let column = select(min(quad, HEAD_DIM / 4u - 1u), quad, is_even());
    return fetch(head.source, (min(token, params.tokens - 1u) * heads + head.index) * (HEAD_DIM / 4u) + column);
}

fn in_head(quad: u32) -> bool {
    return is_even() || quad < HEAD_DIM / 4u;
}

// Whether no chunk ends after the last column.
fn is_even() -> bool {
    return HEAD_DIM % (4u * ACROSS) == 0u;
}

// product[r] += the dot products of a row of a's tile with four rows of b's, over all of a head's columns.
fn multiply_rows(product: ptr<function, Scores>, a: Head, first_a: u32, b: Head, first_b: u32, lane: u32) {
    for (var first = 0u; first < HEAD_DIM / 4u; first += QUADS) {
        if (params.tokens > 0u) { // as in multiply_chunk
            for (var i = 0u; i < TILE * QUADS / LANES; i += 1u) {
                let row = (i * LANES + lane) / QUADS;
                let quad = lane % QUADS;
                // Zeros after the last column: a product of both is then right in every column.
                let value = fetch_quad(a, first_a + row, first + quad);
                left[row * PITCH + quad] = select(vec4(0.0), value, in_head(first + quad));
                right[row * PITCH + quad] = fetch_quad(b, first_b + row, first + quad);
            }
        }
        workgroupBarrier();
        let a_place = first_score_row(lane) * PITCH;
        let b_place = lane % QUADS * PITCH;
        var sums: Scores; // of these columns: short chains of additions round less
        for (var c = 0u; c < quads(); c += 1u) {
            let b0 = right[b_place + c];
            let b1 = right[b_place + c + 8u * PITCH];
            let b2 = right[b_place + c + 16u * PITCH];
            let b3 = right[b_place + c + 24u * PITCH];
            for (var r = 0u; r < ROWS; r += 1u) {
                let x = left[a_place + c + r * PITCH];
                let sum = sums[r];
                sums[r] = vec4(
                    add_dot(x, b0, sum.x), add_dot(x, b1, sum.y), add_dot(x, b2, sum.z), add_dot(x, b3, sum.w)
                );
            }
        }
        for (var r = 0u; r < ROWS; r += 1u) {
            (*product)[r] += sums[r];
        }
        workgroupBarrier();
    }
}

// sum + a . b, as a chain: an instruction a product.
fn add_dot(a: vec4<f32>, b: vec4<f32>, sum: f32) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

// sums[chunk] += the scores x b's tile, for each chunk of its columns. The scores are in the left tile before the call,
// each by the invocation that owns it. Chunk by chunk and not in a loop, as the results are written row by row: what is
// indexed by a variable is in memory and not in registers, and not every compiler unrolls these loops.
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
    let column = lane % ACROSS;
    var sums = before;
    // A condition that no compiler sees through: addresses are computed here, and not kept in registers for all chunks.
    if (params.tokens > 0u) {
        for (var i = 0u; i < TILE * ACROSS / LANES; i += 1u) {
            let row = (i * LANES + lane) / ACROSS;
            right[row * ACROSS + column] = fetch_quad(b, first_b + row, chunk * ACROSS + column);
        }
    }
    workgroupBarrier();
    let p_place = first_row(lane) * PITCH;
    for (var c = 0u; c < quads(); c += 1u) {
        let b_place = c * ACROSS + column;
        let b0 = right[b_place];
        let b1 = right[b_place + 8u * ACROSS];
        let b2 = right[b_place + 16u * ACROSS];
        let b3 = right[b_place + 24u * ACROSS];
        for (var r = 0u; r < 4u; r += 1u) {
            let p = left[p_place + c + r * PITCH];
            sums[r] = fma(vec4(p.w), b3, fma(vec4(p.z), b2, fma(vec4(p.y), b1, fma(vec4(p.x), b0, sums[r]))));
        }
    }
    workgroupBarrier();
    return sums;
}
