//! A workgroup's width changes no bit of attention: 64 invocations and 128 compute the same sums in the same order.

use dqo_wgpu::benches::{attention, attention_backward_key_value, attention_backward_query};

use crate::harness::gpus;

#[test]
fn both_widths_of_a_workgroup_compute_the_same_bits() {
    let [natural, others, ..] = gpus() else { return };
    for tests in [attention::tests(), attention_backward_query::tests(), attention_backward_key_value::tests()] {
        let case = tests.iter().find(|case| case.shape.contains("2/2 heads of 32")).unwrap();
        for (one, other) in case.outputs(natural).unwrap().iter().zip(case.outputs(others).unwrap()) {
            assert!(one.values == other.values, "{}: {}", case.kernel, one.name);
        }
    }
}
