// attention_cached: one new query a row against the keys and values of its own sequence in a cache, with grouped heads.
// For row r, whose keys stand in the cache from row first(r) on, count(r) of them, and head h, with g = h / (heads / kv_heads):
//   s[j] = scale * q[r, h, :] . k[first + j, g, :],  o[r, h, :] = sum_j softmax(s)[j] v[first + j, g, :]
// One workgroup a row and up to MEMBERS heads of one key head, which share what is read of keys and values. Of several parts of
// the keys, `chunk` of them each, a workgroup has one: attention_combine puts their results together.

struct Params {
    rows: u32,
    heads: u32,
    kv_heads: u32,
    scale: f32,
    parts: u32,
    chunk: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> spans: array<vec2<u32>>; // [rows, 2]: first and count
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>; // [rows, heads, HEAD_DIM]
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>; // [any, kv_heads, HEAD_DIM]
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>; // [any, kv_heads, HEAD_DIM]
@group(0) @binding(4) var<storage, read_write> o: array<vec4<f32>>; // [parts, rows, heads, HEAD_DIM]
@group(0) @binding(5) var<storage, read_write> lse: array<f32>; // [parts, rows, heads]: log sum exp(s)

override HEAD_DIM = 64u;
override MEMBERS = 1u;

const LOWEST = -1e30; // below every score

// What a workgroup computes: members first_member .. of a key head, for a row, over a part of its keys.
struct Part {
    index: u32,
    row: u32,
    kv_head: u32,
    first_member: u32,
}

fn part_of(workgroup: vec3<u32>) -> Part {
    let shares = (params.heads / params.kv_heads + MEMBERS - 1u) / MEMBERS;
    let index = linear(workgroup);
    let row = index / (params.kv_heads * shares);
    return Part(row / params.rows, row % params.rows, index / shares % params.kv_heads, index % shares * MEMBERS);
}

// The cache's row of the part's first key, and how many there are; none in parts after the last key.
fn span_of(part: Part) -> vec2<u32> {
    let span = spans[part.row];
    let first = min(part.index * params.chunk, span.y);
    return vec2(span.x + first, min(params.chunk, span.y - first));
}

// The head of one of a part's members. Members after the last are the last again.
fn head_of(part: Part, member: u32) -> u32 {
    let group = params.heads / params.kv_heads;
    return part.kv_head * group + min(part.first_member + member, group - 1u);
}

// Where it starts in q, in groups of four values.
fn query_of(part: Part, member: u32) -> u32 {
    return (part.row * params.heads + head_of(part, member)) * (HEAD_DIM / 4u);
}

// Its place in lse.
fn result_of(part: Part, member: u32) -> u32 {
    return (part.index * params.rows + part.row) * params.heads + head_of(part, member);
}

fn is_member(part: Part, member: u32) -> bool {
    return part.first_member + member < params.heads / params.kv_heads;
}
