use dqo_wgpu::benches::add_bias::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for (rows, cols) in [(37, 123), (1, 1), (130, 576)] {
        check(&case(rows, cols), 1e-6);
    }
}
