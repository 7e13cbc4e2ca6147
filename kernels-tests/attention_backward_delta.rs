use dqo_wgpu::benches::attention_backward_delta::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for (rows, head_dim) in [(37, 124), (1, 4), (130, 64), (9, 256)] {
        check(&case(rows, head_dim), 1e-5);
    }
}
