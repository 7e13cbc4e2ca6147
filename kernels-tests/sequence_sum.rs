use dqo_wgpu::benches::sequence_sum::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for lengths in [vec![1], vec![37, 1, 123], vec![5000, 3]] {
        check(&case(&lengths), 1e-5);
    }
}
