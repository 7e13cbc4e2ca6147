use dqo_wgpu::benches::value_head_backward::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for (rows, cols) in [(37, 123), (1, 1), (130, 576), (64, 4)] {
        check(&case(rows, cols), 1e-5);
    }
}
