use dqo_wgpu::benches::kto::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for lengths in [vec![1], vec![37, 1, 123, 5, 9, 2, 8], vec![512, 513, 511, 2]] {
        check(&case(&lengths, 0.1), 1e-5);
    }
}

#[test]
fn agrees_where_the_utility_is_flat() {
    // exp of the log-ratio overflows f32 on one side. A gradient down there is exp(-u), whose relative error is u's
    // absolute one: a few roundings of a u in the hundreds, 3e-5 each.
    check(&case(&[300, 1, 2, 300, 77, 78], 50.0), 5e-4);
}
