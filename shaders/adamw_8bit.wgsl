// adamw_8bit: a step of adamw with g = gradient_scale * gradient, the moments in 8 bits (Dettmers et al. 2022): a block of 256
// values has its largest magnitude and a code each, which stands for that magnitude times maps[code], v's from maps[256] on.
//   m = beta1 m + rest1 g,   v = beta2 v + rest2 g^2,   both rounded to the nearest code once the weight is stepped:
//   weight = weight (1 - learning_rate * weight_decay) - step_size * m / (sqrt(v) * inverse_sqrt_correction2 + epsilon)
// Then gradient = 0. A workgroup owns BLOCKS blocks, a lane four values of each.

const BLOCK = 256u;
const BLOCKS = 4u;
const CODES = 256u;

struct Params {
    count: u32,
    gradient_scale: f32,
    step_size: f32,
    decay: f32, // learning_rate * weight_decay
    beta1: f32,
    beta2: f32,
    rest1: f32, // 1 - beta1
    rest2: f32, // 1 - beta2
    inverse_sqrt_correction2: f32,
    epsilon: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> maps: array<f32>; // [2, 256]
@group(0) @binding(1) var<storage, read_write> gradient: array<vec4<f32>>; // [count]
@group(0) @binding(2) var<storage, read_write> weight: array<vec4<f32>>; // [count]
@group(0) @binding(3) var<storage, read_write> m: array<u32>; // [count / 4], four codes each
@group(0) @binding(4) var<storage, read_write> m_absmax: array<f32>; // [count / 256]
@group(0) @binding(5) var<storage, read_write> v: array<u32>; // [count / 4], four codes each
@group(0) @binding(6) var<storage, read_write> v_absmax: array<f32>; // [count / 256]

var<workgroup> code_values: array<f32, 512>;
var<workgroup> middles: array<f32, 512>; // between a code's value and the next one's

fn values_of(word: u32, map: u32) -> vec4<f32> {
    let codes = ((vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u)) + map;
    return vec4(code_values[codes.x], code_values[codes.y], code_values[codes.z], code_values[codes.w]);
}

// The nearest codes to values of a block, the lower of two: as many as there are middles between two codes below a value.
fn nearest(values: vec4<f32>, absmax: f32, map: u32) -> u32 {
    let x = values * (1.0 / max(absmax, 1e-38));
    var codes = vec4(0u);
    for (var step = CODES / 2u; step > 0u; step /= 2u) {
        let at = codes + (map + step - 1u);
        codes += select(vec4(0u), vec4(step), x > vec4(middles[at.x], middles[at.y], middles[at.z], middles[at.w]));
    }
    return codes.x | (codes.y << 8u) | (codes.z << 16u) | (codes.w << 24u);
}

fn largest(values: vec4<f32>, lane: Lane) -> f32 {
    let sizes = abs(values);
    return row_max(max(max(sizes.x, sizes.y), max(sizes.z, sizes.w)), lane);
}

fn step_block(block: u32, lane: Lane) {
    let i = block * (BLOCK / 4u) + lane.index;
    let is_there = i * 4u < params.count;
    var m_new = vec4(0.0);
    var v_new = vec4(0.0);
    if (is_there) {
        // The last four may be fewer.
        let inside = vec4(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u) < vec4(params.count);
        let g = params.gradient_scale * gradient[i];
        let m_old = values_of(m[i], 0u) * m_absmax[block];
        let v_old = values_of(v[i], CODES) * v_absmax[block];
        m_new = select(vec4(0.0), fma(vec4(params.rest1), g, params.beta1 * m_old), inside);
        v_new = select(vec4(0.0), fma(vec4(params.rest2) * g, g, params.beta2 * v_old), inside);
        let direction = m_new / (sqrt(v_new) * params.inverse_sqrt_correction2 + params.epsilon);
        weight[i] = fma(vec4(-params.step_size), direction, weight[i] * (1.0 - params.decay));
        gradient[i] = vec4(0.0);
    }
    let largest_m = largest(m_new, lane);
    let largest_v = largest(v_new, lane);
    if (is_there) {
        m[i] = nearest(m_new, largest_m, 0u);
        v[i] = nearest(v_new, largest_v, CODES);
        if (lane.index == 0u) {
            m_absmax[block] = largest_m;
            v_absmax[block] = largest_v;
        }
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, lane: Lane) {
    for (var i = lane.index; i < 2u * CODES; i += LANES) {
        code_values[i] = maps[i];
        middles[i] = (maps[i] + maps[min(i + 1u, 2u * CODES - 1u)]) * 0.5;
    }
    workgroupBarrier();
    let first = linear(workgroup) * BLOCKS;
    let end = min(first + BLOCKS, (params.count + BLOCK - 1u) / BLOCK);
    for (var block = first; block < end; block += 1u) {
        step_block(block, lane);
    }
}
