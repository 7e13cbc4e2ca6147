// Reverse scan of affine maps G -> a + b G over a sequence of any length by one workgroup.
//
// The sequence is taken in spans of LANES * ITEMS positions from its end; in a span, lane 0 has the last ITEMS
// positions, lane 1 the ones before. A map is (a, b).
const LANES = 64u;
const ITEMS = 8u;
const IDENTITY = vec2(0.0, 1.0);

var<workgroup> maps: array<vec2<f32>, LANES>;
var<workgroup> sums: array<vec4<f32>, LANES>;

// First `right`, then `left`: G -> left.a + left.b (right.a + right.b G).
fn compose(left: vec2<f32>, right: vec2<f32>) -> vec2<f32> {
    return vec2(fma(left.y, right.x, left.x), left.y * right.y);
}

// The maps of all lanes before `lane` (those to its right), composed, in xy; the maps of all lanes in zw.
fn scan_lanes(own: vec2<f32>, lane: u32) -> vec4<f32> {
    var composed = own;
    maps[lane] = own;
    workgroupBarrier();
    for (var span = 1u; span < LANES; span *= 2u) {
        var right = IDENTITY;
        if (lane >= span) {
            right = maps[lane - span];
        }
        workgroupBarrier();
        composed = compose(composed, right);
        maps[lane] = composed;
        workgroupBarrier();
    }
    var before = IDENTITY;
    if (lane > 0u) {
        before = maps[lane - 1u];
    }
    let all = maps[LANES - 1u];
    workgroupBarrier();
    return vec4(before, all);
}

// The sum over all lanes.
fn sum_lanes(own: vec4<f32>, lane: u32) -> vec4<f32> {
    sums[lane] = own;
    workgroupBarrier();
    for (var span = LANES / 2u; span > 0u; span /= 2u) {
        if (lane < span) {
            sums[lane] += sums[lane + span];
        }
        workgroupBarrier();
    }
    let sum = sums[0];
    workgroupBarrier();
    return sum;
}

// base^exponent by squaring: pow's error grows with the exponent on some drivers.
fn integer_power(base: f32, exponent: u32) -> f32 {
    var power = 1.0;
    var square = base;
    for (var n = exponent; n > 0u; n >>= 1u) {
        if ((n & 1u) == 1u) {
            power *= square;
        }
        square *= square;
    }
    return power;
}

// The map of a position whose reward (with the KL term) is `reward`, that is followed by a state of value
// `next_value`, `left` steps from the end of its sequence. `tail_power` is lambda^left: with it the weights are those
// of eq. 3.11 as printed, which sum to 1 - lambda^left; with 0 they sum to 1.
fn return_map(reward: f32, next_value: f32, lambda: f32, tail_power: f32) -> vec2<f32> {
    return vec2(fma(1.0 - lambda, next_value, (1.0 - tail_power) * reward), lambda);
}
