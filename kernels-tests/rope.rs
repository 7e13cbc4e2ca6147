use dqo_wgpu::benches::rope::case;

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin() {
    for (tokens, heads, head_dim) in [(37, 3, 10), (1, 1, 2), (100, 9, 64), (7, 2, 128)] {
        check(&case(tokens, heads, head_dim, 1.0), 1e-6);
        check(&case(tokens, heads, head_dim, -1.0), 1e-6);
    }
}
