use dqo_wgpu::benches::attention_backward_query::case;

use crate::attention::SHAPES;
use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    // A sequence of one token has no gradient here: its only probability is 1. Alone it would be all rounding.
    for (lengths, heads) in SHAPES.into_iter().filter(|(lengths, _)| lengths != &[1]) {
        check(&case(lengths, heads), 1e-5);
    }
}
