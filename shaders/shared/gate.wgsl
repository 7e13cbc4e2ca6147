// SiLU and tanh-GELU are one formula: f(x) = x sigmoid(z(x)), with
//   SiLU: z = x;   GELU (tanh form, as 0.5 (1 + tanh u) = sigmoid(2 u)): z = 2 sqrt(2/pi) (x + 0.044715 x^3).
// f'(x) = s + x s (1 - s) z'(x), s = sigmoid(z).
const GELU = 1u;
const GELU_SCALE = 1.5957691216057308; // 2 sqrt(2/pi)
const GELU_CUBIC = 0.044715;

fn gate_z(x: vec4<f32>, activation: u32) -> vec4<f32> {
    if (activation == GELU) {
        return GELU_SCALE * (x + GELU_CUBIC * x * x * x);
    }
    return x;
}

fn gate_dz(x: vec4<f32>, activation: u32) -> vec4<f32> {
    if (activation == GELU) {
        return GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * x * x);
    }
    return vec4(1.0);
}

// By exp(-|z|), which cannot overflow, and exact in relative terms in both tails.
fn sigmoid(z: vec4<f32>) -> vec4<f32> {
    let e = exp(-min(abs(z), vec4(80.0)));
    return select(e, vec4(1.0), z >= vec4(0.0)) / (1.0 + e);
}
