// Attention on matrix units: operands are those of split_heads, of which a subgroup reads matrices of SIZE x SIZE. A workgroup is
// four subgroups with SIZE rows each. In a step a subgroup multiplies its rows by STEP others; its invocations make weights of these
// products, through workgroup memory, as f16; and its sums, of its rows and the columns of a head, grow by the product of the weights
// and the operand that is summed up. What is one f16 or two (PARTS) is as in shared/matmul_matrices.wgsl.
alias operand = f16;
override SUBGROUP = 32u;
override THREADS = 4u * SUBGROUP;
override HEAD_DIM = 64u; // at most 128
override COLS = (HEAD_DIM + 15u) / 16u * 16u;
const EXPONENTS = 256u;
const LOG2_E = 1.44269504; // by which scores become logarithms to base 2
const ROWS = 4u * SIZE;
const STEP = 2u * SIZE;

// Of a subgroup's products: rows of STEP.
const PITCH = STEP + 4u;
var<workgroup> scores: array<f32, ROWS * PITCH>;
// Of its weights, part by part.
const WEIGHT_PITCH = STEP + 8u;
const WEIGHTS = ROWS * WEIGHT_PITCH;
var<workgroup> weights: array<f16, PARTS * WEIGHTS>;

// A subgroup's invocations share its rows: each has COLS_OF_LANE columns of one, a multiple of four.
override LANES_OF_ROW = SUBGROUP / SIZE;
override COLS_OF_LANE = STEP / LANES_OF_ROW;

struct Member {
    subgroup: u32,
    lane: u32,
    row: u32, // in the workgroup
    first_col: u32,
}

fn member_of(subgroup: u32, lane: u32) -> Member {
    let own = subgroup % 4u;
    return Member(own, lane, own * SIZE + lane / LANES_OF_ROW, lane % LANES_OF_ROW * COLS_OF_LANE);
}

fn largest_of_row(x: f32) -> f32 {
    var largest = x;
    for (var span = 1u; span < LANES_OF_ROW; span *= 2u) {
        largest = max(largest, subgroupShuffleXor(largest, span));
    }
    return largest;
}

fn sum_of_row(x: f32) -> f32 {
    var sum = x;
    for (var span = 1u; span < LANES_OF_ROW; span *= 2u) {
        sum += subgroupShuffleXor(sum, span);
    }
    return sum;
}

// Tokens that there is room for.
fn padded() -> u32 {
    return (params.tokens + 63u) / 64u * 64u;
}

// A part of an operand.
fn part_size(heads: u32) -> u32 {
    return heads * padded() * COLS;
}

// Where a head's rows begin, from a token on; a row is COLS long. Whatever stands in bounds, there are STEP of them.
fn by_token(head: u32, token: u32) -> u32 {
    return EXPONENTS + (head * padded() + min(token, padded() - STEP)) * COLS;
}

// Columns come for so many tokens at a time, SIDE of split_heads: those of a step lie in one such block.
const COL = 32u;

// Where a head's columns begin, from a token on; one is COL long.
fn by_col(heads: u32, head: u32, token: u32) -> u32 {
    let within = min(token, padded() - STEP);
    return EXPONENTS + PARTS * part_size(heads) + (head * padded() + within / COL * COL) * COLS + within % COL;
}

// 2^(exponent - 127), of an exponent that is biased as an f32's, and the inverse.
fn power(exponent: u32) -> f32 {
    return bitcast<f32>(exponent << 23u);
}

fn inverse(exponent: u32) -> f32 {
    return power(254u - exponent);
}

// By what an operand that is scaled so is multiplied to be itself.
fn inverse_of(exponent: f16) -> f32 {
    return inverse(u32(exponent));
}

// sum + a b, of matrices that may have a second part.
fn times(sum: Sum, a: Left, a_low: Left, b: Right, b_low: Right) -> Sum {
    if (PARTS == 1u) {
        return coopMultiplyAdd(a, b, sum);
    }
    return add_parts(sum, a, a_low, b, b_low);
}

// scores = a subgroup's rows, from place `left` on, x STEP others, from place `right` on.
fn multiply_scores(member: Member, left: u32, left_size: u32, right: u32, right_size: u32) {
    var sum: Sum;
    var next: Sum;
    for (var d = 0u; d < COLS; d += SIZE) {
        let a = score_left(left + d);
        let a_low = score_left(left + (PARTS - 1u) * left_size + d);
        let b = score_right(right + d);
        let b_low = score_right(right + (PARTS - 1u) * right_size + d);
        sum = times(sum, a, a_low, b, b_low);
        let c = score_right(right + SIZE * COLS + d);
        let c_low = score_right(right + (PARTS - 1u) * right_size + SIZE * COLS + d);
        next = times(next, a, a_low, c, c_low);
    }
    let first = member.subgroup * SIZE * PITCH;
    let second = first + SIZE;
    let pitch = PITCH;
    coopStoreT(sum, &scores[first], pitch);
    coopStoreT(next, &scores[second], pitch);
}

// Four scores of a row, from a place on.
fn four_scores(place: u32) -> vec4<f32> {
    return vec4(scores[place], scores[place + 1u], scores[place + 2u], scores[place + 3u]);
}

// Which of four others, from one on, are among so many from the first on.
fn four_within(other: u32, first: u32, count: u32) -> vec4<bool> {
    return vec4(other - first) + vec4(0u, 1u, 2u, 3u) < vec4(count);
}

// Keeps four weights of an invocation's row, scaled to below 2^15.
fn keep_weights(member: Member, col: u32, x: vec4<f32>) {
    let place = member.row * WEIGHT_PITCH + col;
    let high = rounded(x);
    for (var d = 0u; d < 4u; d += 1u) {
        weights[place + d] = high[d];
    }
    if (PARTS == 2u) {
        let low = rounded(x - vec4<f32>(high));
        for (var d = 0u; d < 4u; d += 1u) {
            weights[WEIGHTS + place + d] = low[d];
        }
    }
}

// A subgroup's sums, by columns of a head.
var<private> sum0: Sum;
var<private> sum1: Sum;
var<private> sum2: Sum;
var<private> sum3: Sum;
var<private> sum4: Sum;
var<private> sum5: Sum;
var<private> sum6: Sum;
var<private> sum7: Sum;
var<private> sum8: Sum;
var<private> sum9: Sum;
var<private> sum10: Sum;
var<private> sum11: Sum;
var<private> sum12: Sum;
var<private> sum13: Sum;
var<private> sum14: Sum;
var<private> sum15: Sum;

// Where the columns of an operand stand that a step sums up, and how much further its second part.
struct Columns {
    place: u32,
    size: u32,
}

fn add_column(sum: Sum, a: Left, a_low: Left, columns: Columns, col: u32) -> Sum {
    let place = columns.place + col * SIZE * COL;
    return times(sum, a, a_low, sum_right(place), sum_right(place + (PARTS - 1u) * columns.size));
}

// The sums += the weights x the STEP rows of an operand whose columns are given.
fn multiply_weights(member: Member, columns: Columns) {
    let first = member.subgroup * SIZE * WEIGHT_PITCH;
    for (var k = 0u; k < STEP; k += SIZE) {
        let a = coopLoadT<Left>(&weights[first + k], WEIGHT_PITCH);
        let a_low = coopLoadT<Left>(&weights[first + (PARTS - 1u) * WEIGHTS + k], WEIGHT_PITCH);
        let now = Columns(columns.place + k, columns.size);
        sum0 = add_column(sum0, a, a_low, now, 0u);
        if (COLS > SIZE) { sum1 = add_column(sum1, a, a_low, now, 1u); }
        if (COLS > 2u * SIZE) { sum2 = add_column(sum2, a, a_low, now, 2u); }
        if (COLS > 3u * SIZE) { sum3 = add_column(sum3, a, a_low, now, 3u); }
        if (COLS > 4u * SIZE) { sum4 = add_column(sum4, a, a_low, now, 4u); }
        if (COLS > 5u * SIZE) { sum5 = add_column(sum5, a, a_low, now, 5u); }
        if (COLS > 6u * SIZE) { sum6 = add_column(sum6, a, a_low, now, 6u); }
        if (COLS > 7u * SIZE) { sum7 = add_column(sum7, a, a_low, now, 7u); }
        if (COLS > 8u * SIZE) { sum8 = add_column(sum8, a, a_low, now, 8u); }
        if (COLS > 9u * SIZE) { sum9 = add_column(sum9, a, a_low, now, 9u); }
        if (COLS > 10u * SIZE) { sum10 = add_column(sum10, a, a_low, now, 10u); }
        if (COLS > 11u * SIZE) { sum11 = add_column(sum11, a, a_low, now, 11u); }
        if (COLS > 12u * SIZE) { sum12 = add_column(sum12, a, a_low, now, 12u); }
        if (COLS > 13u * SIZE) { sum13 = add_column(sum13, a, a_low, now, 13u); }
        if (COLS > 14u * SIZE) { sum14 = add_column(sum14, a, a_low, now, 14u); }
        if (COLS > 15u * SIZE) { sum15 = add_column(sum15, a, a_low, now, 15u); }
    }
}

// A matrix of sums on its way out: an invocation has no access to a matrix's values.
fn finish(member: Member, sum: Sum, col: u32, first_row: u32, factor: f32) {
    let first = member.subgroup * SIZE * PITCH;
    let pitch = PITCH;
    workgroupBarrier();
    coopStoreT(sum, &scores[first], pitch);
    workgroupBarrier();
    for (var quad = member.lane; quad < SIZE * SIZE / 4u; quad += SUBGROUP) {
        let row = 4u * quad / SIZE;
        let at = 4u * quad % SIZE;
        let place = first + row * PITCH + at;
        let four = four_scores(place);
        let token = first_row + member.subgroup * SIZE + row;
        if (token < params.tokens && col * SIZE + at < HEAD_DIM) {
            store(token, (col * SIZE + at) / 4u, factor * four);
        }
    }
}

fn finish_all(member: Member, first_row: u32, factor: f32) {
    finish(member, sum0, 0u, first_row, factor);
    if (COLS > SIZE) { finish(member, sum1, 1u, first_row, factor); }
    if (COLS > 2u * SIZE) { finish(member, sum2, 2u, first_row, factor); }
    if (COLS > 3u * SIZE) { finish(member, sum3, 3u, first_row, factor); }
    if (COLS > 4u * SIZE) { finish(member, sum4, 4u, first_row, factor); }
    if (COLS > 5u * SIZE) { finish(member, sum5, 5u, first_row, factor); }
    if (COLS > 6u * SIZE) { finish(member, sum6, 6u, first_row, factor); }
    if (COLS > 7u * SIZE) { finish(member, sum7, 7u, first_row, factor); }
    if (COLS > 8u * SIZE) { finish(member, sum8, 8u, first_row, factor); }
    if (COLS > 9u * SIZE) { finish(member, sum9, 9u, first_row, factor); }
    if (COLS > 10u * SIZE) { finish(member, sum10, 10u, first_row, factor); }
    if (COLS > 11u * SIZE) { finish(member, sum11, 11u, first_row, factor); }
    if (COLS > 12u * SIZE) { finish(member, sum12, 12u, first_row, factor); }
    if (COLS > 13u * SIZE) { finish(member, sum13, 13u, first_row, factor); }
    if (COLS > 14u * SIZE) { finish(member, sum14, 14u, first_row, factor); }
    if (COLS > 15u * SIZE) { finish(member, sum15, 15u, first_row, factor); }
}
