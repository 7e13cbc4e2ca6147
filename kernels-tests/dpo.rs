use dqo_wgpu::benches::dpo::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for lengths in [vec![1, 1], vec![37, 1, 1, 123], vec![512, 513, 511, 2]] {
        check(&case(&lengths, 0.1), 1e-5);
    }
}

#[test]
fn agrees_where_the_margin_is_large() {
    // Both signs of margins in the hundreds, where exp of one of them overflows f32. A gradient down there is
    // exp(-margin), whose relative error is the margin's absolute one: a few roundings of hundreds, 3e-5 each.
    check(&case(&[300, 1, 1, 300, 77, 78], 50.0), 5e-4);
}
