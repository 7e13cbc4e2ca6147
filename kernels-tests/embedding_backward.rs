use dqo_wgpu::benches::embedding_backward::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for (tokens, rows, cols) in [(37, 11, 124), (1, 1, 4), (300, 1000, 64), (500, 2, 8)] {
        check(&case(tokens, rows, cols), 1e-5);
    }
}
