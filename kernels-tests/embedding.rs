use dqo_wgpu::benches::embedding::case;
use dqo_wgpu::device::DType;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for (tokens, rows, cols) in [(37, 11, 124), (1, 1, 4), (300, 1000, 64)] {
        check(&case(tokens, rows, cols, DType::Real), 1e-6);
        check(&case(tokens, rows, cols, DType::Bf16), 1e-6);
    }
}
