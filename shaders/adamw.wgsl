// adamw: one step of AdamW (Loshchilov and Hutter 2019) as torch computes it, with g = gradient_scale * gradient:
//   m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2
//   weight = weight (1 - learning_rate * weight_decay) - step_size * m / (sqrt(v) * inverse_sqrt_correction2 + epsilon)
// step_size = learning_rate / (1 - beta1^step), inverse_sqrt_correction2 = 1 / sqrt(1 - beta2^step).
// Then gradient = 0: the next step adds to it. An invocation owns four values of one of two weights.

struct Params {
    count: u32,
    count2: u32,
    gradient_scale: f32,
    step_size: f32,
    decay: f32, // learning_rate * weight_decay
    beta1: f32,
    beta2: f32,
    inverse_sqrt_correction2: f32,
    epsilon: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> gradient: array<vec4<f32>>; // [count]
@group(0) @binding(1) var<storage, read_write> weight: array<vec4<f32>>; // [count]
@group(0) @binding(2) var<storage, read_write> m: array<vec4<f32>>; // [count]
@group(0) @binding(3) var<storage, read_write> v: array<vec4<f32>>; // [count]
@group(0) @binding(4) var<storage, read_write> gradient2: array<vec4<f32>>; // [count2]
@group(0) @binding(5) var<storage, read_write> weight2: array<vec4<f32>>; // [count2]
@group(0) @binding(6) var<storage, read_write> m2: array<vec4<f32>>; // [count2]
@group(0) @binding(7) var<storage, read_write> v2: array<vec4<f32>>; // [count2]

struct State {
    weight: vec4<f32>,
    m: vec4<f32>,
    v: vec4<f32>,
}

fn stepped(old: State, unscaled: vec4<f32>) -> State {
    let g = params.gradient_scale * unscaled;
    let m_new = fma(vec4(1.0 - params.beta1), g - old.m, old.m);
    let v_new = fma(vec4(1.0 - params.beta2) * g, g, params.beta2 * old.v);
    let direction = m_new / (sqrt(v_new) * params.inverse_sqrt_correction2 + params.epsilon);
    return State(fma(vec4(-params.step_size), direction, old.weight * (1.0 - params.decay)), m_new, v_new);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let index = linear(workgroup) * 64u + lane;
    let quads = (params.count + 3u) / 4u;
    if (index < quads) {
        let new_state = stepped(State(weight[index], m[index], v[index]), gradient[index]);
        weight[index] = new_state.weight;
        m[index] = new_state.m;
        v[index] = new_state.v;
        gradient[index] = vec4(0.0);
        return;
    }
    let i = index - quads;
    if (i * 4u >= params.count2) {
        return;
    }
    let new_state = stepped(State(weight2[i], m2[i], v2[i]), gradient2[i]);
    weight2[i] = new_state.weight;
    m2[i] = new_state.m;
    v2[i] = new_state.v;
    gradient2[i] = vec4(0.0);
}
