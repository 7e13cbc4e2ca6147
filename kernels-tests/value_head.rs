use dqo_wgpu::benches::value_head::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for (rows, cols) in [(37, 123), (1, 1), (130, 576), (3, 4096)] {
        check(&case(rows, cols), 1e-5);
    }
}
