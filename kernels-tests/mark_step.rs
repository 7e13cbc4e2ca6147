use dqo_wgpu::benches::mark_step::case;

use crate::harness::check;

#[test]
fn writes_the_step() {
    for step in [0, 1, 123_456] {
        check(&case(step), 0.0);
    }
}
