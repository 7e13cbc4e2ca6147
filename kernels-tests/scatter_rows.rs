use dqo_wgpu::benches::scatter_rows::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for (rows, places, cols) in [(37, 40, 123), (1, 1, 1), (130, 500, 576)] {
        check(&case(rows, places, cols), 0.0);
    }
}
