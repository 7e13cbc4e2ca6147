use dqo_wgpu::benches::rms_norm_backward_weight::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for (rows, cols) in [(37, 123), (1, 1), (64, 4), (65, 4), (1000, 576)] {
        check(&case(rows, cols), 1e-5);
    }
}
