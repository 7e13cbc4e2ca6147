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

// Four dots of a row, from a place on.
fn four_dots(place: u32) -> vec4<f32> {
    return vec4(dots[place], dots[place + 1u], dots[place + 2u], dots[place + 3u]);
}

// 0, of one of the scores, once all are there, which no compiler sees through: what is read from there on is read then, and not kept
// in registers meanwhile. Scores of scaled operands are below 2^37.
fn once_there(place: u32) -> u32 {
    workgroupBarrier();
    return select(0u, COLS, scores[place] > 1e20);
}

// p (dots - delta), of scaled operands as dots are, is below this where those of one side are below `largest`: values are below 2^15,
// and delta is the dot product of a row and an average of values.
fn bound(largest: f32) -> f32 {
    return 2.0 * f32(HEAD_DIM) * largest * 32768.0;
}

// The power of two that brings it to 2^14 or above, below 2^15, as an exponent that is biased as an f32's.
fn exponent_of(bound: f32) -> u32 {
    return min(268u - (bitcast<u32>(bound) >> 23u), 253u);
}
