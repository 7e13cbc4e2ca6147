use dqo_wgpu::benches::attention::case;
use dqo_wgpu::kernels::Heads;

use crate::harness::check;

pub const SHAPES: [(&[usize], Heads); 6] = [
    (&[1], Heads { heads: 1, kv_heads: 1, head_dim: 4 }),
    (&[37, 1, 60], Heads { heads: 6, kv_heads: 2, head_dim: 12 }),
    (&[5, 31, 32, 33, 64, 3], Heads { heads: 2, kv_heads: 2, head_dim: 32 }),
    (&[130], Heads { heads: 3, kv_heads: 1, head_dim: 64 }),
    (&[40, 50], Heads { heads: 4, kv_heads: 1, head_dim: 100 }),
    (&[70], Heads { heads: 2, kv_heads: 1, head_dim: 256 }),
];

#[test]
fn agrees_with_the_f64_twin() {
    for (lengths, heads) in SHAPES {
        check(&case(lengths, heads, 1.0), 1e-5);
    }
}

#[test]
fn survives_scores_in_the_thousands() {
    // A score of 2000 has 2000 * 2^-24 = 1e-4 of absolute precision in f32, and exp makes that a relative error.
    check(&case(&[37, 60], Heads { heads: 2, kv_heads: 1, head_dim: 64 }, 30.0), 3e-4);
}
