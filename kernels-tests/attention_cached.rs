//! Decoding's attention over the longest cache that the software adapter takes.

use dqo_wgpu::benches::attention_cached::case;
use dqo_wgpu::benches::case::relative_error;
use dqo_wgpu::device::{Device, Precision};
use dqo_wgpu::kernels::Heads;

use crate::harness::gpus;

#[test]
fn takes_the_longest_sequence_that_llvmpipe_takes() {
    let case = case(&[8192], Heads { heads: 4, kv_heads: 1, head_dim: 64 }, 1.0);
    let exact = case.outputs(&Device::cpu(Precision::F64)).unwrap();
    for device in gpus().iter().take(1) {
        let error = relative_error(&case.outputs(device).unwrap()[0].values, &exact[0].values);
        assert!(error <= 1e-5, "{error:.1e}");
    }
}
