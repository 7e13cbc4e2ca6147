// attention_cached: one new query a row against the keys and values of its own sequence in a cache, with grouped heads.
// For row r, whose keys stand in the cache from row first(r) on, count(r) of them, and head h, with g = h / (heads / kv_heads):
//   s[j] = scale * q[r, h, :] . k[first + j, g, :],  o[r, h, :] = sum_j softmax(s)[j] v[first + j, g, :]
// One workgroup a row and up to MEMBERS heads of one key head, which share what is read of keys and values.

struct Params {
    rows: u32,
    heads: u32,
    kv_heads: u32,
    scale: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> spans: array<vec2<u32>>; // [rows, 2]: first and count
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>; // [rows, heads, HEAD_DIM]
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>; // [any, kv_heads, HEAD_DIM]
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>; // [any, kv_heads, HEAD_DIM]
@group(0) @binding(4) var<storage, read_write> o: array<vec4<f32>>; // [rows, heads, HEAD_DIM]

override HEAD_DIM = 64u;
override MEMBERS = 1u;

// What a workgroup computes: members first_member .. of a key head, for a row.
struct Part {
    row: u32,
    kv_head: u32,
    first_member: u32,
}

fn part_of(workgroup: vec3<u32>) -> Part {
    let parts = (params.heads / params.kv_heads + MEMBERS - 1u) / MEMBERS;
    let index = linear(workgroup);
    return Part(index / (params.kv_heads * parts), index / parts % params.kv_heads, index % parts * MEMBERS);
}

// Where the head of one of a part's members starts in q and o, in groups of four values. Members after the last are the
// last again.
fn head_of(part: Part, member: u32) -> u32 {
    let group = params.heads / params.kv_heads;
    let head = part.kv_head * group + min(part.first_member + member, group - 1u);
    return (part.row * params.heads + head) * (HEAD_DIM / 4u);
}

fn is_member(part: Part, member: u32) -> bool {
    return part.first_member + member < params.heads / params.kv_heads;
}
