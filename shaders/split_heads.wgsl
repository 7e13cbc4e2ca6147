// split_heads: each head of x as matrix units take operands of attention: scaled by a power of two that brings its largest value
// to 2^14 or above, below 2^15, and then one f16 a value, or two of which the second is what the first has left.
// halves, as f16: 256 of which those of the heads say by what power of two each is scaled, as an exponent that is biased as an
// f32's; then [parts, heads, TOKENS, COLS]; then [parts, heads, TOKENS / SIDE, COLS, SIDE], the columns of SIDE tokens at a time. There
// are zeros after the last token and column.

struct Params {
    tokens: u32,
    heads: u32,
    parts: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [tokens, heads, HEAD_DIM]
@group(0) @binding(1) var<storage, read> magnitudes: array<u32>; // [heads, HEAD_DIM], as bits of an f32
@group(0) @binding(2) var<storage, read_write> halves: array<u32>; // pairs of f16

override HEAD_DIM = 64u;
override COLS = (HEAD_DIM + 15u) / 16u * 16u;
const EXPONENTS = 256u;
const LANES = 64u;

// A workgroup has SIDE tokens and SIDE columns of a head.
const SIDE = 32u;
const PITCH = SIDE + 1u;
var<workgroup> tile: array<f32, SIDE * PITCH>;

// As the operands of linear layers (shared/matmul_matrices.wgsl), by all of a head's values.
fn exponent_of(head: u32) -> u32 {
    var largest = 0u;
    for (var i = 0u; i < HEAD_DIM; i += 1u) {
        largest = max(largest, magnitudes[head * HEAD_DIM + i]);
    }
    return min(268u - (largest >> 23u), 253u);
}

const LEAST_NORMAL = 1.0 / 16384.0; // of f16
const STEPS = 16777216.0; // of 1 below it

// The nearest f16, ties to even: a driver's own conversion may cut off.
fn rounded(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    let of_normal = bitcast<f32>((bits + 0xfffu + ((bits >> 13u) & 1u)) & 0xffffe000u);
    return select(of_normal, round(x * STEPS) / STEPS, abs(x) < LEAST_NORMAL);
}

// Its bits.
fn bits_of(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let exponent = (bits >> 23u) & 255u;
    let of_normal = select((bits >> 13u) - (112u << 10u), 0x7e00u, exponent == 255u) & 0x7fffu;
    return (bits >> 31u << 15u) | select(of_normal, u32(abs(x) * STEPS), abs(x) < LEAST_NORMAL);
}

fn pair(a: f32, b: f32) -> u32 {
    return bits_of(a) | (bits_of(b) << 16u);
}

fn part_of(x: f32, part: u32) -> f32 {
    let high = rounded(x);
    return select(high, rounded(x - high), part == 1u);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = workgroup.y;
    let first_token = workgroup.x * SIDE;
    let first_col = workgroup.z * SIDE;
    let exponent = exponent_of(head);
    let factor = bitcast<f32>(exponent << 23u);
    for (var i = lane; i < SIDE * SIDE / 4u; i += LANES) {
        let token = i / (SIDE / 4u);
        let col = 4u * (i % (SIDE / 4u));
        var four = vec4(0.0);
        if (first_token + token < params.tokens && first_col + col < HEAD_DIM) {
            let row = (first_token + token) * params.heads + head;
            four = factor * x[(row * HEAD_DIM + first_col + col) / 4u];
        }
        for (var d = 0u; d < 4u; d += 1u) {
            tile[token * PITCH + col + d] = four[d];
        }
    }
    workgroupBarrier();
    let tokens = (params.tokens + 63u) / 64u * 64u;
    let size = params.heads * tokens * COLS;
    for (var part = 0u; part < params.parts; part += 1u) {
        let by_token = EXPONENTS + part * size + (head * tokens + first_token) * COLS + first_col;
        let by_col = EXPONENTS + (params.parts + part) * size + (head * tokens + first_token) * COLS + first_col * SIDE;
        for (var i = lane; i < SIDE * SIDE / 2u; i += LANES) {
            let line = i / (SIDE / 2u);
            let across = 2u * (i % (SIDE / 2u));
            if (first_col + across < COLS) {
                let at = line * PITCH + across;
                halves[(by_token + line * COLS + across) / 2u] = pair(part_of(tile[at], part), part_of(tile[at + 1u], part));
            }
            if (first_col + line < COLS) {
                let at = across * PITCH + line;
                halves[(by_col + line * SIDE + across) / 2u] = pair(part_of(tile[at], part), part_of(tile[at + PITCH], part));
            }
        }
    }
    if (workgroup.x == 0u && workgroup.z == 0u && lane == 0u && head % 2u == 0u) {
        let next = exponent_of(min(head + 1u, params.heads - 1u));
        halves[head / 2u] = pair(f32(exponent), f32(next));
    }
}
