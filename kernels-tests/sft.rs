use dqo_wgpu::benches::sft::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for positions in [1, 37, 1000] {
        check(&case(positions), 1e-6);
    }
}
