use dqo_wgpu::benches::scale::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    // One product, rounded once.
    for count in [1, 37 * 123, 100_000] {
        check(&case(count), 1e-7);
    }
}
