use dqo_wgpu::benches::dqo::{DEFAULT, Switches, case};

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin_under_every_switch() {
    for bits in 0..32 {
        for lambda in [1.0, 0.95] {
            let is_set = |bit: u32| bits & (1 << bit) != 0;
            let switches = Switches {
                lambda,
                policy_is: is_set(0),
                value_is: is_set(1),
                paper_tail: is_set(2),
                td_target: is_set(3),
                mean_reduction: is_set(4),
            };
            check(&case(&[37, 1, 123], switches), 1e-5);
        }
    }
}

#[test]
fn agrees_on_long_and_short_responses() {
    for lengths in [vec![1], vec![512, 513, 511, 2], vec![10_000]] {
        check(&case(&lengths, DEFAULT), 1e-5);
        check(&case(&lengths, Switches { lambda: 0.95, ..DEFAULT }), 1e-5);
    }
}
