use dqo_wgpu::benches::attention_cached::case;
use dqo_wgpu::benches::case::relative_error;
use dqo_wgpu::device::{Device, Precision};
use dqo_wgpu::kernels::Heads;

use crate::harness::{check, gpus};

#[test]
fn agrees_with_the_f64_twin() {
    let shapes: [(&[usize], Heads); 6] = [
        (&[1], Heads { heads: 1, kv_heads: 1, head_dim: 4 }),
        (&[37, 1, 60, 4], Heads { heads: 6, kv_heads: 2, head_dim: 12 }),
        (&[5, 31, 32, 33], Heads { heads: 2, kv_heads: 2, head_dim: 32 }),
        (&[130, 2], Heads { heads: 7, kv_heads: 1, head_dim: 64 }),
        (&[40, 50], Heads { heads: 8, kv_heads: 2, head_dim: 100 }),
        (&[70], Heads { heads: 9, kv_heads: 3, head_dim: 256 }),
    ];
    for (counts, heads) in shapes {
        check(&case(counts, heads, 1.0), 1e-5);
    }
}

#[test]
fn takes_the_longest_sequence_that_llvmpipe_takes() {
    let case = case(&[8192], Heads { heads: 4, kv_heads: 1, head_dim: 64 }, 1.0);
    let exact = case.outputs(&Device::cpu(Precision::F64)).unwrap();
    for device in gpus().iter().take(1) {
        let error = relative_error(&case.outputs(device).unwrap()[0].values, &exact[0].values);
        assert!(error <= 1e-5, "{error:.1e}");
    }
}

#[test]
fn survives_scores_in_the_thousands() {
    // A score of 2000 has 2000 * 2^-24 = 1e-4 of absolute precision in f32, and exp makes that a relative error.
    check(&case(&[37, 60], Heads { heads: 2, kv_heads: 1, head_dim: 64 }, 30.0), 3e-4);
}
