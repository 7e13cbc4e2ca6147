use dqo_wgpu::benches::matmul_nt::case;
use dqo_wgpu::device::DType;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for (rows, cols, inner) in [
        (37, 124, 52),
        (1, 4, 4),
        (2, 100, 700),
        (128, 68, 20),
        (130, 132, 96),
        (65, 1000, 8),
        (600, 516, 20),
        (512, 512, 512),
    ] {
        for dtype in [DType::Real, DType::Bf16] {
            check(&case([rows, cols, inner], dtype, false), 1e-5);
            check(&case([rows, cols, inner], dtype, true), 1e-5);
        }
    }
}
