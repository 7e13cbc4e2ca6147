use dqo_wgpu::benches::rms_norm_backward::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for (rows, cols) in [(37, 123), (1, 1), (1, 4), (130, 576), (3, 4096)] {
        check(&case(rows, cols, false), 1e-5);
        check(&case(rows, cols, true), 1e-5);
    }
}
