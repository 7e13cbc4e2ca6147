use dqo_wgpu::benches::gated_mlp::case;
use dqo_wgpu::kernels::Activation;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for activation in [Activation::Silu, Activation::GeluTanh] {
        for (count, range) in [(37 * 123, 1.0), (1, 1.0), (5000, 20.0), (1000, 1e4), (1000, 1e-4)] {
            check(&case(count, activation, range), 1e-5);
        }
    }
}
