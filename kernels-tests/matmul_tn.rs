use dqo_wgpu::benches::matmul_tn::case;
use dqo_wgpu::device::DType;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for (rows, cols, inner) in
        [(124, 52, 37), (4, 4, 1), (132, 96, 130), (1000, 8, 65), (516, 520, 21), (512, 512, 512)]
    {
        check(&case([rows, cols, inner], DType::Real, false), 1e-5);
        check(&case([rows, cols, inner], DType::Real, true), 1e-5);
    }
}
