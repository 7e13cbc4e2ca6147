use super::attention::{BENCH, Backward, LARGE, Packed, SHAPES, backward, large_backward, packed};
use super::case::Case;
use crate::device::Call;
use crate::kernels::{AttentionBackwardKeyValue, Heads, KeyValueGradients};

/// The gradient, from such inputs.
fn case(inputs: Backward, packed: Packed) -> Case {
    let (tokens, Heads { heads, kv_heads, head_dim }) = (packed.tokens(), packed.heads);
    let case = inputs(AttentionBackwardKeyValue::SIGNATURE, 8.0, packed);
    let case = case.output("dk", &[tokens, kv_heads, head_dim]).output("dv", &[tokens, kv_heads, head_dim]);
    case.input("partial", &[heads / kv_heads, tokens, kv_heads, head_dim]).run(move |device, tensors| {
        packed.run_backward(device, tensors, |sequences, projections, output, outputs| {
            let [dk, dv, partial] = outputs else { unreachable!() };
            let gradients = KeyValueGradients { dk, dv, partial };
            AttentionBackwardKeyValue::run(device, packed.heads, sequences, projections, output, gradients);
        });
    })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let shapes = SHAPES.into_iter().filter(|packed| packed.has_gradient());
    // 4200 tokens are 132 tiles: where loops are cut short the six heads of the group take two calls. A sum of 6 * 4200 terms
    // in f32, in one chain, has an error of some sqrt(25200) * 2^-24 = 1e-5.
    let in_two_calls = case(backward, packed(&[4200], [6, 1, 4])).within(5e-5);
    shapes.map(|packed| case(backward, packed)).chain([in_two_calls]).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(backward, BENCH)]
}

/// The large rows of the table.
pub fn large() -> impl Iterator<Item = Case> {
    LARGE.into_iter().map(|packed| case(large_backward, packed))
}
