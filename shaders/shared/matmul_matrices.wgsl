// The matrix product on matrix units, for GPUs that have them: a workgroup of 2 x 2 subgroups, of which each sums 4 x 4 matrices of
// SIZE x SIZE outputs; operands come in tiles of DEPTH k through workgroup memory. While a tile is multiplied, the next one is on its
// way into registers. matrices_16.wgsl, matrices_8.wgsl and matrices_8_f32.wgsl say of what matrices are; those of f32 take operands as
// they are.
//
// Where they are of f16 (SCALES), a row of the left operand, and a column of the right one, is scaled by a power of two that brings its
// largest value to 2^14 or above, below 2^15, so that nothing overflows and little vanishes: f16 reaches 39 binary orders below it. A
// scaled value x is then one f16, or two (HALVES): high = x rounded to 11 bits, low = x - high rounded to 11 bits. What is left of x is
// 2^-11 of it at most, or 2^-22. Sums are scaled back when they are stored. matrices_two_parts.wgsl and matrices_one_part.wgsl multiply.
override SUBGROUP = 32u;
override THREADS = 4u * SUBGROUP;
const BLOCK = 4u * SIZE; // rows and columns of a subgroup
const ROWS = 2u * BLOCK;
const COLS = 2u * BLOCK;
const DEPTH = 16u;

// [HALVES, ROWS + COLS, PITCH]: rows of the left tile, then columns of the right one. The pitch spreads lines over the banks, and
// lets 16 bytes be read at once.
const PITCH = DEPTH + IN_16_BYTES;
const HALF = (ROWS + COLS) * PITCH;
var<workgroup> tiles: array<entry, HALVES * HALF>;

// A matrix of sums of each subgroup, on its way out: an invocation has no access to a matrix's values.
var<workgroup> sums: array<f32, 4u * SIZE * SIZE>;

// What an invocation brings of a tile is patches of eight values, of two quads: a row's (or a column's) lie along k, as do the next
// one's; or a k's lie across four rows, as do the next k's.
const PATCHES = ROWS * DEPTH / 8u;
override SHARES = (PATCHES + THREADS - 1u) / THREADS;
override IS_WHOLE = PATCHES % THREADS == 0u;
const MAX_SHARES = 4u;

// Whether an invocation has a share of so many.
fn has_share(lane: u32, share: u32) -> bool {
    return IS_WHOLE || lane + share * THREADS < PATCHES;
}

// The first row (or column) and k of a patch, within its tile: neighbouring invocations bring neighbouring values.
fn patch_at(lane: u32, share: u32, along_k: bool) -> vec2<u32> {
    let patch_index = lane + share * THREADS;
    let quads = DEPTH / 4u;
    let pairs = DEPTH / 2u;
    return select(
        vec2(4u * (patch_index / pairs), 2u * (patch_index % pairs)),
        vec2(2u * (patch_index / quads), 4u * (patch_index % quads)),
        along_k,
    );
}

// The row and the k of one of a patch's quads.
fn quad_at(row: u32, k: u32, quad: u32, along_k: bool) -> vec2<u32> {
    return vec2(row, k) + select(vec2(0u, quad), vec2(quad, 0u), along_k);
}

// Where a patch's quads lie in memory.
fn left_places(row: u32, k: u32) -> vec2<u32> {
    let next = quad_at(row, k, 1u, LEFT_ALONG_K);
    return vec2(left_place(row, k), left_place(next.x, next.y));
}

fn right_places(col: u32, k: u32) -> vec2<u32> {
    let next = quad_at(col, k, 1u, RIGHT_ALONG_K);
    return vec2(right_place(col, k), right_place(next.x, next.y));
}

// A patch from `row` and `k` on; zeros where k is not in the range.
fn left_within(row: u32, k: u32, range: vec2<u32>) -> array<vec4<f32>, 2> {
    var quads: array<vec4<f32>, 2>;
    for (var i = 0u; i < 2u; i += 1u) {
        let at = quad_at(row, k, i, LEFT_ALONG_K);
        if (is_within(at.y, range)) {
            quads[i] = left_quad(left_place(at.x, at.y));
        }
    }
    return quads;
}

fn right_within(col: u32, k: u32, range: vec2<u32>) -> array<vec4<f32>, 2> {
    var quads: array<vec4<f32>, 2>;
    for (var i = 0u; i < 2u; i += 1u) {
        let at = quad_at(col, k, i, RIGHT_ALONG_K);
        if (is_within(at.y, range)) {
            quads[i] = unpack(right_quad(right_place(at.x, at.y)));
        }
    }
    return quads;
}

// The power of two that a row or column is scaled by, as an exponent that is biased as an f32's: of the largest value's bits. Where
// it is subnormal the factor is as large as one whose inverse is normal.
fn exponent_of(magnitude: u32) -> u32 {
    return min(268u - (magnitude >> 23u), 253u);
}

// The factor itself; no number where the largest value is none, so that the sums are none either.
fn factors_of(magnitudes: vec4<u32>) -> vec4<f32> {
    if (!SCALES) {
        return vec4(1.0);
    }
    var factors: vec4<u32>;
    for (var i = 0u; i < 4u; i += 1u) {
        factors[i] = select(exponent_of(magnitudes[i]) << 23u, 0x7fc00000u, (magnitudes[i] >> 23u) == 255u);
    }
    return bitcast<vec4<f32>>(factors);
}

// Of four rows, or columns.
fn left_magnitudes(row: u32) -> vec4<u32> {
    return vec4(left_magnitude(row), left_magnitude(row + 1u), left_magnitude(row + 2u), left_magnitude(row + 3u));
}

fn right_magnitudes(col: u32) -> vec4<u32> {
    return vec4(right_magnitude(col), right_magnitude(col + 1u), right_magnitude(col + 2u), right_magnitude(col + 3u));
}

fn put(place: u32, along_k: bool, first: entry4, second: entry4) {
    for (var d = 0u; d < 4u; d += 1u) {
        if (along_k) {
            tiles[place + d] = first[d];
            tiles[place + PITCH + d] = second[d];
        } else {
            tiles[place + d * PITCH] = first[d];
            tiles[place + d * PITCH + 1u] = second[d];
        }
    }
}

// Keeps a patch, from its place in the tiles on, scaled by its rows' factors.
fn keep(place: u32, along_k: bool, quads: array<vec4<f32>, 2>, factors: vec4<f32>) {
    let first = quads[0] * select(factors, vec4(factors.x), along_k);
    let second = quads[1] * select(factors, vec4(factors.y), along_k);
    let first_high = rounded(first);
    let second_high = rounded(second);
    put(place, along_k, first_high, second_high);
    if (HALVES == 2u) {
        let first_low = rounded(first - vec4<f32>(first_high));
        let second_low = rounded(second - vec4<f32>(second_high));
        put(HALF + place, along_k, first_low, second_low);
    }
}

// Of each share of an invocation: where its quads lie in memory in the second step of a part of the k, and its factors.
var<private> left: array<vec2<u32>, MAX_SHARES>;
var<private> right: array<vec2<u32>, MAX_SHARES>;
var<private> left_scales: array<vec4<f32>, MAX_SHARES>;
var<private> right_scales: array<vec4<f32>, MAX_SHARES>;

// The shares that are on their way.
struct Shares {
    left: array<array<vec4<f32>, 2>, MAX_SHARES>,
    right: array<array<weight4, 2>, MAX_SHARES>,
}

fn keep_left(lane: u32, share: u32, quads: array<vec4<f32>, 2>) {
    let at = patch_at(lane, share, LEFT_ALONG_K);
    keep(at.x * PITCH + at.y, LEFT_ALONG_K, quads, left_scales[share]);
}

fn keep_right(lane: u32, share: u32, quads: array<vec4<f32>, 2>) {
    let at = patch_at(lane, share, RIGHT_ALONG_K);
    keep((ROWS + at.x) * PITCH + at.y, RIGHT_ALONG_K, quads, right_scales[share]);
}

// Finds the shares' places in a part of the k, and keeps its first tile, which begins at `first_k`; where it has any k.
fn begin(lane: u32, corner: vec2<u32>, first_k: u32, range: vec2<u32>) {
    for (var i = 0u; i < SHARES; i += 1u) {
        if (has_share(lane, i)) {
            let of_left = vec2(corner.y, first_k) + patch_at(lane, i, LEFT_ALONG_K);
            let of_right = vec2(corner.x, first_k) + patch_at(lane, i, RIGHT_ALONG_K);
            left[i] = left_places(of_left.x, of_left.y + DEPTH);
            right[i] = right_places(of_right.x, of_right.y + DEPTH);
            left_scales[i] = factors_of(left_magnitudes(of_left.x));
            right_scales[i] = factors_of(right_magnitudes(of_right.x));
            if (range.x < range.y) {
                keep_left(lane, i, left_within(of_left.x, of_left.y, range));
                keep_right(lane, i, right_within(of_right.x, of_right.y, range));
            }
        }
    }
}

fn load(lane: u32, k: u32) -> Shares {
    var shares: Shares;
    for (var i = 0u; i < SHARES; i += 1u) {
        if (has_share(lane, i)) {
            let of_left = left[i] + left_beyond(k);
            let of_right = right[i] + right_beyond(k);
            shares.left[i] = array(left_quad(of_left.x), left_quad(of_left.y));
            shares.right[i] = array(right_quad(of_right.x), right_quad(of_right.y));
        }
    }
    return shares;
}

fn keep_next(lane: u32, next: Shares) {
    for (var i = 0u; i < SHARES; i += 1u) {
        if (has_share(lane, i)) {
            keep_left(lane, i, next.left[i]);
            let two = next.right[i];
            keep_right(lane, i, array(unpack(two[0]), unpack(two[1])));
        }
    }
}

// Matrices of the tiles: one half of the values from a row, or a column, and a k on.
fn left_matrix(half: u32, row: u32, k: u32) -> Left {
    return coopLoadT<Left>(&tiles[half * HALF + row * PITCH + k], PITCH);
}

fn right_matrix(half: u32, col: u32, k: u32) -> Right {
    return coopLoad<Right>(&tiles[half * HALF + (ROWS + col) * PITCH + k], PITCH);
}

// The sums of a subgroup: [row, column] of matrices.
var<private> sum00: Sum;
var<private> sum01: Sum;
var<private> sum02: Sum;
var<private> sum03: Sum;
var<private> sum10: Sum;
var<private> sum11: Sum;
var<private> sum12: Sum;
var<private> sum13: Sum;
var<private> sum20: Sum;
var<private> sum21: Sum;
var<private> sum22: Sum;
var<private> sum23: Sum;
var<private> sum30: Sum;
var<private> sum31: Sum;
var<private> sum32: Sum;
var<private> sum33: Sum;

// Four sums from a row and a column on, scaled back: in two steps, as the power of two may be no f32's.
fn unscaled(row: u32, col: u32, sum: vec4<f32>) -> vec4<f32> {
    if (!SCALES) {
        return sum;
    }
    let columns = right_magnitudes(col);
    let of_row = i32(exponent_of(left_magnitude(row)));
    var result: vec4<f32>;
    for (var d = 0u; d < 4u; d += 1u) {
        let power = 254 - of_row - i32(exponent_of(columns[d]));
        let half = power / 2;
        result[d] = sum[d] * bitcast<f32>(u32(half + 127) << 23u) * bitcast<f32>(u32(power - half + 127) << 23u);
    }
    return result;
}

// A subgroup and a lane of it.
struct Member {
    subgroup: u32,
    lane: u32,
}

// Stores a matrix of sums of each subgroup, its own from a row and a column on.
fn finish(sum: Sum, member: Member, row: u32, col: u32, layer: u32) {
    let first = member.subgroup * SIZE * SIZE;
    let pitch = SIZE;
    workgroupBarrier();
    coopStoreT(sum, &sums[first], pitch);
    workgroupBarrier();
    for (var quad = member.lane; quad < SIZE * SIZE / 4u; quad += SUBGROUP) {
        let at = 4u * quad;
        let four = vec4(sums[first + at], sums[first + at + 1u], sums[first + at + 2u], sums[first + at + 3u]);
        let place = vec2(row + at / SIZE, col + at % SIZE);
        store(place.x, place.y, layer, unscaled(place.x, place.y, four));
    }
}

// The products of the tiles that a subgroup sums up, from its own column and row on.
fn multiply_tile(own: vec2<u32>) {
    for (var d = 0u; d < DEPTH; d += SIZE) {
        multiply(own.y, own.x, d);
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane_of_subgroup: u32,
) {
    prepare(lane);
    let size = vec2(COLS, ROWS);
    let corner = corner_of(tile_of(workgroup.xy, grid_of(size)), size);
    let member = Member(subgroup % 4u, lane_of_subgroup);
    let own = BLOCK * vec2(member.subgroup % 2u, member.subgroup / 2u);
    for (var part = 0u; part < PARTS; part += 1u) {
        let range = enter(part, workgroup.z);
        // What is missing to whole steps is zeros before the first k: all steps but the first are whole.
        let filled = (range.y - range.x + DEPTH - 1u) / DEPTH * DEPTH;
        begin(lane, corner, range.y - filled, range);
        for (var k = DEPTH; k < filled; k += DEPTH) {
            workgroupBarrier();
            let next = load(lane, k - DEPTH);
            multiply_tile(own);
            workgroupBarrier();
            keep_next(lane, next);
        }
        workgroupBarrier();
        if (filled > 0u) {
            multiply_tile(own);
        }
        workgroupBarrier();
    }
    let row = corner.y + own.y;
    let col = corner.x + own.x;
    finish(sum00, member, row, col, workgroup.z);
    finish(sum01, member, row, col + SIZE, workgroup.z);
    finish(sum02, member, row, col + 2u * SIZE, workgroup.z);
    finish(sum03, member, row, col + 3u * SIZE, workgroup.z);
    finish(sum10, member, row + SIZE, col, workgroup.z);
    finish(sum11, member, row + SIZE, col + SIZE, workgroup.z);
    finish(sum12, member, row + SIZE, col + 2u * SIZE, workgroup.z);
    finish(sum13, member, row + SIZE, col + 3u * SIZE, workgroup.z);
    finish(sum20, member, row + 2u * SIZE, col, workgroup.z);
    finish(sum21, member, row + 2u * SIZE, col + SIZE, workgroup.z);
    finish(sum22, member, row + 2u * SIZE, col + 2u * SIZE, workgroup.z);
    finish(sum23, member, row + 2u * SIZE, col + 3u * SIZE, workgroup.z);
    finish(sum30, member, row + 3u * SIZE, col, workgroup.z);
    finish(sum31, member, row + 3u * SIZE, col + SIZE, workgroup.z);
    finish(sum32, member, row + 3u * SIZE, col + 2u * SIZE, workgroup.z);
    finish(sum33, member, row + 3u * SIZE, col + 3u * SIZE, workgroup.z);
}
