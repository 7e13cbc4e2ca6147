use dqo_wgpu::benches::log_softmax::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for (rows, vocabulary, chunk) in [(37, 123, 123), (1, 1, 1), (5, 1000, 64), (3, 999, 250), (2, 262_144, 8192)] {
        check(&case(rows, vocabulary, chunk, 5.0, 0.0), 1e-5);
    }
}

#[test]
fn survives_extreme_logits() {
    // The distribution is nearly a point: the target's log-prob is near 0 or near -200.
    check(&case(16, 1000, 256, 100.0, 0.0), 1e-5);
    // A shift of all logits by 1000 leaves f32 only 1000 * 2^-24 = 6e-5 of absolute precision in each logit, but the
    // twin reads the same rounded logits; what is left is the rounding of m + log s (2^-24 * 1000 in lse, of 1000).
    check(&case(16, 1000, 256, 1.0, 1000.0), 1e-5);
}
