// adamw: one step of AdamW (Loshchilov and Hutter 2019) as torch computes it, with g = gradient_scale * gradient:
//   m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2
//   weight = weight (1 - learning_rate * weight_decay) - step_size * m / (sqrt(v) * inverse_sqrt_correction2 + epsilon)
// step_size = learning_rate / (1 - beta1^step), inverse_sqrt_correction2 = 1 / sqrt(1 - beta2^step).
// An invocation owns four values.

struct Params {
    count: u32,
    gradient_scale: f32,
    step_size: f32,
    decay: f32, // learning_rate * weight_decay
    beta1: f32,
    beta2: f32,
    inverse_sqrt_correction2: f32,
    epsilon: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> gradient: array<vec4<f32>>; // [count]
@group(0) @binding(1) var<storage, read_write> weight: array<vec4<f32>>; // [count]
@group(0) @binding(2) var<storage, read_write> m: array<vec4<f32>>; // [count]
@group(0) @binding(3) var<storage, read_write> v: array<vec4<f32>>; // [count]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = linear(workgroup) * 64u + lane;
    if (i * 4u >= params.count) {
        return;
    }
    let g = params.gradient_scale * gradient[i];
    let m_new = fma(vec4(1.0 - params.beta1), g - m[i], m[i]);
    let v_new = fma(vec4(1.0 - params.beta2) * g, g, params.beta2 * v[i]);
    m[i] = m_new;
    v[i] = v_new;
    let direction = m_new / (sqrt(v_new) * params.inverse_sqrt_correction2 + params.epsilon);
    weight[i] = fma(vec4(-params.step_size), direction, weight[i] * (1.0 - params.decay));
}
