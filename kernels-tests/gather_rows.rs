use dqo_wgpu::benches::gather_rows::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for (rows, sources, cols) in [(37, 12, 123), (1, 1, 1), (130, 500, 576)] {
        check(&case(rows, sources, cols), 0.0);
    }
}
