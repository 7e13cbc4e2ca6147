use dqo_wgpu::benches::log_softmax_backward::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for (rows, cols, first_col) in [(37, 123, 0), (1, 1, 0), (5, 1000, 64), (64, 61, 3)] {
        check(&case(rows, cols, first_col), 1e-5);
    }
}
