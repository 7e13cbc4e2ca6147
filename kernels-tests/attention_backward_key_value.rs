use dqo_wgpu::benches::attention_backward_key_value::case;
use dqo_wgpu::kernels::Heads;

use crate::attention::SHAPES;
use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    // A sequence of one token has no gradient here: its only probability is 1. Alone it would be all rounding.
    for (lengths, heads) in SHAPES.into_iter().filter(|(lengths, _)| lengths != &[1]) {
        check(&case(lengths, heads), 1e-5);
    }
}

#[test]
fn takes_the_heads_of_a_group_in_several_calls() {
    // 4200 tokens are 132 tiles: the six heads of the group take two calls. A sum of 6 * 4200 terms in f32, in one chain,
    // has an error of some sqrt(25200) * 2^-24 = 1e-5.
    check(&case(&[4200], Heads { heads: 6, kv_heads: 1, head_dim: 4 }), 5e-5);
}
