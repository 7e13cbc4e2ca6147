use dqo_wgpu::benches::add_rms_norm::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for (rows, cols) in [(37, 123), (1, 1), (1, 4), (130, 576), (3, 4096)] {
        for add in [true, false] {
            check(&case(rows, cols, 0.0, add), 1e-5);
            check(&case(rows, cols, 1.0, add), 1e-5);
        }
    }
}
