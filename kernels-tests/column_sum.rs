use dqo_wgpu::benches::column_sum::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for (rows, cols) in [(37, 123), (1, 1), (64, 4), (65, 4), (5000, 576)] {
        check(&case(rows, cols), 1e-5);
    }
}
