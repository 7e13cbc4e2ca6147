use super::attention::{BENCH, Backward, LARGE, Packed, SHAPES, backward, large_backward};
use super::case::Case;
use crate::device::Call;
use crate::kernels::AttentionBackwardQuery;

/// The gradient, from such inputs.
fn case(inputs: Backward, packed: Packed) -> Case {
    let case = inputs(AttentionBackwardQuery::SIGNATURE, 6.0, packed);
    case.output("dq", &[packed.tokens(), packed.heads.heads, packed.heads.head_dim]).run(move |device, tensors| {
        packed.run_backward(device, tensors, |sequences, projections, output, outputs| {
            let [dq] = outputs else { unreachable!() };
            AttentionBackwardQuery::run(device, packed.heads, sequences, projections, output, dq);
        });
    })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    SHAPES.into_iter().filter(|packed| packed.has_gradient()).map(|packed| case(backward, packed)).collect()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(backward, BENCH)]
}

/// The large rows of the table.
pub fn large() -> impl Iterator<Item = Case> {
    LARGE.into_iter().map(|packed| case(large_backward, packed))
}
