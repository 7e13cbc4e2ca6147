use dqo_wgpu::benches::sum_squares::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for count in [1, 37 * 123, 16384, 16385, 100_003] {
        check(&case(count), 1e-5);
    }
}
