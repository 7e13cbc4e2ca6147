// The matrix product for GPUs: a workgroup computes ROWS x COLS outputs from tiles of DEPTH k in workgroup memory, an
// invocation 8 x 8 of them, as 2 x 2 blocks of 4 x 4. While a tile is multiplied, the next one is on its way into registers.
// Every output is one chain of fma in ascending k, as in matmul_lanes.wgsl.
override ROWS = 64u;
override COLS = 64u;
override THREADS = ROWS * COLS / 64u;
const DEPTH = 16u;

// [DEPTH, ROWS / 2 + COLS / 2]: at one k, two rows of the left tile (then two columns of the right one) in a vector.
override TILE_PITCH = (ROWS + COLS) / 2u;
override TILE_PAIRS = DEPTH * TILE_PITCH;
override RIGHT_TILE = ROWS / 2u;
var<workgroup> tiles: array<vec2<f32>, TILE_PAIRS>;

// Where a pair of rows lies in its tile. What is brought along k writes the four k-groups of a pair at the same time: the
// permutation lets them meet in no bank.
fn pair_place(pair: u32, k: u32) -> u32 {
    return k * TILE_PITCH + (pair ^ (4u * (k / 4u)));
}

// What an invocation brings of a tile is shares of two quads: of a pair of rows along k, or of four rows at two k. A share is
// SHARE_PITCH pairs behind the one before, which the permutation leaves alone.
override LEFT_SHARES = 2u * ROWS / THREADS;
override RIGHT_SHARES = 2u * COLS / THREADS;
override SHARE_PITCH = THREADS / 4u;
// The shares of the left tile, and of the right one, that are on their way while the tile before is multiplied: with more of them
// registers do not suffice on an M1, and not for two subgroups on a Vega.
override LEFT_EARLY = select(1u, LEFT_SHARES, LEFT_SHARES + RIGHT_SHARES <= 4u);
const RIGHT_EARLY = 1u;
const MAX_SHARES = 4u;

// A share's first pair and k, within its tile.
struct Share {
    pair: u32,
    k: u32,
}

// Neighbouring invocations bring neighbouring values.
fn share_of(lane: u32, i: u32, along_k: bool) -> Share {
    if (along_k) {
        return Share(lane / 4u + i * SHARE_PITCH, 4u * (lane % 4u));
    }
    return Share(2u * (lane % (SHARE_PITCH / 2u)) + i * SHARE_PITCH, 2u * (lane / (SHARE_PITCH / 2u)));
}

fn place_of(share: Share) -> u32 {
    return pair_place(share.pair, share.k);
}

// The row and the k of one of a share's quads, of the tile from `row` and `k` on.
fn quad_at(share: Share, quad: u32, along_k: bool, row: u32, k: u32) -> vec2<u32> {
    return vec2(row + 2u * share.pair, k + share.k) + select(vec2(0u, quad), vec2(quad, 0u), along_k);
}

// Where a share's quads lie in memory.
fn left_places(share: Share, row: u32, k: u32) -> vec2<u32> {
    let first = quad_at(share, 0u, LEFT_ALONG_K, row, k);
    let second = quad_at(share, 1u, LEFT_ALONG_K, row, k);
    return vec2(left_place(first.x, first.y), left_place(second.x, second.y));
}

fn right_places(share: Share, col: u32, k: u32) -> vec2<u32> {
    let first = quad_at(share, 0u, RIGHT_ALONG_K, col, k);
    let second = quad_at(share, 1u, RIGHT_ALONG_K, col, k);
    return vec2(right_place(first.x, first.y), right_place(second.x, second.y));
}

fn load_left(places: vec2<u32>) -> array<vec4<f32>, 2> {
    return array(left_quad(places.x), left_quad(places.y));
}

fn load_right(places: vec2<u32>) -> array<weight4, 2> {
    return array(right_quad(places.x), right_quad(places.y));
}

// A share of the tile from `row` and `k` on; zeros where k is not in the range.
fn left_within(share: Share, row: u32, k: u32, range: vec2<u32>) -> array<vec4<f32>, 2> {
    var quads: array<vec4<f32>, 2>;
    for (var i = 0u; i < 2u; i += 1u) {
        let at = quad_at(share, i, LEFT_ALONG_K, row, k);
        if (is_within(at.y, range)) {
            quads[i] = left_quad(left_place(at.x, at.y));
        }
    }
    return quads;
}

fn right_within(share: Share, col: u32, k: u32, range: vec2<u32>) -> array<weight4, 2> {
    var quads: array<weight4, 2>;
    for (var i = 0u; i < 2u; i += 1u) {
        let at = quad_at(share, i, RIGHT_ALONG_K, col, k);
        if (is_within(at.y, range)) {
            quads[i] = right_quad(right_place(at.x, at.y));
        }
    }
    return quads;
}

// Keeps a share's values, from its place in the tiles on.
fn keep(place: u32, along_k: bool, quads: array<vec4<f32>, 2>) {
    if (along_k) {
        for (var d = 0u; d < 4u; d += 1u) {
            tiles[place + d * TILE_PITCH] = vec2(quads[0][d], quads[1][d]);
        }
    } else {
        for (var d = 0u; d < 2u; d += 1u) {
            tiles[place + d * TILE_PITCH] = quads[d].xy;
            tiles[place + d * TILE_PITCH + 1u] = quads[d].zw;
        }
    }
}

fn keep_right(place: u32, quads: array<weight4, 2>) {
    keep(place, RIGHT_ALONG_K, array(unpack(quads[0]), unpack(quads[1])));
}

// The first pairs of columns and of rows of an invocation's first blocks, and how far its second ones are behind them, which the
// permutation leaves alone.
fn own_pairs(lane: u32) -> vec2<u32> {
    let t = vec2(lane % (COLS / 8u), lane / (COLS / 8u));
    return select(4u * t, 2u * t, vec2(COLS, ROWS) >= vec2(64u));
}

fn apart(rows: u32) -> u32 {
    return select(2u, rows / 4u, rows >= 64u);
}

// Four rows of a tile at a k.
fn four_at(place: u32) -> vec4<f32> {
    return vec4(tiles[place], tiles[place + 1u]);
}

var<private> sums: array<vec4<f32>, 16>; // [row, half of the columns]

// Adds the products of the tiles, of an invocation's own pairs.
fn multiply(pairs: vec2<u32>) {
    for (var k = 0u; k < DEPTH; k += 1u) {
        let left = pair_place(pairs.y, k / 4u * 4u) + k % 4u * TILE_PITCH;
        let right = RIGHT_TILE + pair_place(pairs.x, k / 4u * 4u) + k % 4u * TILE_PITCH;
        let a0 = four_at(left);
        let a1 = four_at(left + apart(ROWS));
        let b0 = four_at(right);
        let b1 = four_at(right + apart(COLS));
        for (var r = 0u; r < 4u; r += 1u) {
            sums[2u * r] = fma(vec4(a0[r]), b0, sums[2u * r]);
            sums[2u * r + 1u] = fma(vec4(a0[r]), b1, sums[2u * r + 1u]);
            sums[8u + 2u * r] = fma(vec4(a1[r]), b0, sums[8u + 2u * r]);
            sums[9u + 2u * r] = fma(vec4(a1[r]), b1, sums[9u + 2u * r]);
        }
    }
}

// Where an invocation's first shares are kept, and where each share lies in memory in the second step of a part of the k.
var<private> left_kept: u32;
var<private> right_kept: u32;
var<private> left: array<vec2<u32>, MAX_SHARES>;
var<private> right: array<vec2<u32>, MAX_SHARES>;

// The shares that are on their way.
struct Shares {
    left: array<array<vec4<f32>, 2>, MAX_SHARES>,
    right: array<array<weight4, 2>, MAX_SHARES>,
}

// Finds the shares' places in a part of the k, and keeps its first tile, which begins at `first_k`; where it has any k.
fn begin(lane: u32, corner: vec2<u32>, first_k: u32, range: vec2<u32>) {
    left_kept = place_of(share_of(lane, 0u, LEFT_ALONG_K));
    right_kept = RIGHT_TILE + place_of(share_of(lane, 0u, RIGHT_ALONG_K));
    for (var i = 0u; i < LEFT_SHARES; i += 1u) {
        let share = share_of(lane, i, LEFT_ALONG_K);
        left[i] = left_places(share, corner.y, first_k + DEPTH);
        if (range.x < range.y) {
            keep(left_kept + i * SHARE_PITCH, LEFT_ALONG_K, left_within(share, corner.y, first_k, range));
        }
    }
    for (var i = 0u; i < RIGHT_SHARES; i += 1u) {
        let share = share_of(lane, i, RIGHT_ALONG_K);
        right[i] = right_places(share, corner.x, first_k + DEPTH);
        if (range.x < range.y) {
            keep_right(right_kept + i * SHARE_PITCH, right_within(share, corner.x, first_k, range));
        }
    }
}

fn load_early(k: u32) -> Shares {
    var shares: Shares;
    for (var i = 0u; i < LEFT_EARLY; i += 1u) {
        shares.left[i] = load_left(left[i] + left_beyond(k));
    }
    for (var i = 0u; i < RIGHT_EARLY; i += 1u) {
        shares.right[i] = load_right(right[i] + right_beyond(k));
    }
    return shares;
}

// Keeps what is on its way, then brings and keeps the rest: all together is more than registers hold.
fn keep_next(k: u32, early: Shares) {
    for (var i = 0u; i < LEFT_EARLY; i += 1u) {
        keep(left_kept + i * SHARE_PITCH, LEFT_ALONG_K, early.left[i]);
    }
    for (var i = 0u; i < RIGHT_EARLY; i += 1u) {
        keep_right(right_kept + i * SHARE_PITCH, early.right[i]);
    }
    for (var i = LEFT_EARLY; i < LEFT_SHARES; i += 1u) {
        keep(left_kept + i * SHARE_PITCH, LEFT_ALONG_K, load_left(left[i] + left_beyond(k)));
    }
    for (var i = RIGHT_EARLY; i < RIGHT_SHARES; i += 1u) {
        keep_right(right_kept + i * SHARE_PITCH, load_right(right[i] + right_beyond(k)));
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    prepare(lane);
    let size = vec2(COLS, ROWS);
    let corner = corner_of(tile_of(workgroup.xy, grid_of(size)), size);
    for (var part = 0u; part < PARTS; part += 1u) {
        let range = enter(part, workgroup.z);
        // What is missing to whole steps is zeros before the first k: all steps but the first are whole.
        let filled = (range.y - range.x + DEPTH - 1u) / DEPTH * DEPTH;
        let pairs = own_pairs(lane);
        begin(lane, corner, range.y - filled, range);
        for (var k = 0u; k < filled; k += DEPTH) {
            let is_last = k + DEPTH == filled;
            var next: Shares;
            workgroupBarrier();
            if (!is_last) {
                next = load_early(k);
            }
            multiply(pairs);
            workgroupBarrier();
            if (!is_last) {
                keep_next(k, next);
            }
        }
    }
    let first = corner + 2u * own_pairs(lane);
    for (var r = 0u; r < 8u; r += 1u) {
        let row = first.y + r / 4u * 2u * apart(ROWS) + r % 4u;
        store(row, first.x, workgroup.z, sums[2u * r]);
        store(row, first.x + 2u * apart(COLS), workgroup.z, sums[2u * r + 1u]);
    }
}
