// What the backward passes of attention on matrix units share: a second product beside the scores, and weights of any size.
var<workgroup> dots: array<f32, ROWS * PITCH>;

// dots = a subgroup's rows, from place `left` on, x STEP others, from place `right` on.
fn multiply_dots(member: Member, left: u32, left_size: u32, right: u32, right_size: u32) {
    var sum: Sum;
    var next: Sum;
    for (var d = 0u; d < COLS; d += SIZE) {
        let a = dot_left(left + d);
        let a_low = dot_left(left + (PARTS - 1u) * left_size + d);
        let b = dot_right(right + d);
        let b_low = dot_right(right + (PARTS - 1u) * right_size + d);
        sum = times(sum, a, a_low, b, b_low);
        let c = dot_right(right + SIZE * COLS + d);
        let c_low = dot_right(right + (PARTS - 1u) * right_size + SIZE * COLS + d);
        next = times(next, a, a_low, c, c_low);
    }
    let first = member.subgroup * SIZE * PITCH;
    let second = first + SIZE;
    let pitch = PITCH;
    coopStoreT(sum, &dots[first], pitch);
    coopStoreT(next, &dots[second], pitch);
}

const LOG2_E = 1.44269504;

// 0, of one of the scores, once all are there, which no compiler sees through: what is read from there on is read then, and not kept
// in registers meanwhile. Scores of scaled operands are below 2^37.
fn once_there(place: u32) -> u32 {
    workgroupBarrier();
    return select(0u, COLS, scores[place] > 1e20);
}

// The largest weight of a subgroup so far, as bits: what all are scaled by.
var<private> largest_weight: u32;

// The power of two that brings it to 2^14 or above, below 2^15, as an exponent that is biased as an f32's.
fn weight_exponent() -> u32 {
    return min(268u - (largest_weight >> 23u), 253u);
}

// Keeps the weights that the subgroup's invocations have put in place of the scores, of which `largest` is this one's largest. Where
// one is larger than all before, the sums shrink to its scale.
fn keep_weights(member: Member, largest: u32) {
    let before = weight_exponent();
    largest_weight = max(largest_weight, subgroupMax(largest));
    let exponent = weight_exponent();
    scale_sums(bitcast<f32>(max(127 + i32(exponent) - i32(before), 1) << 23u));
    for (var col = member.first_col; col < STEP; col += LANES_OF_ROW) {
        keep_weight(member, col, bitcast<f32>(exponent << 23u) * scores[member.row * PITCH + col]);
    }
}

fn magnitude(x: f32) -> u32 {
    return bitcast<u32>(x) & 0x7fffffffu;
}
