//! Every kernel's cases on every device, held against the f64 twin: a test for each kernel.

use dqo_wgpu::benches::case::{Case, Output};
use dqo_wgpu::benches::large::large_of;
use dqo_wgpu::benches::{
    CASES, attention, attention_backward_key_value, attention_backward_query, grouped_linear,
    grouped_linear_backward_input, matmul,
};
use dqo_wgpu::device::{Device, Precision};
use dqo_wgpu::gpu::{Gpu, Rates};

use crate::harness::{check, open_gpus};

macro_rules! tests {
    ($($name:ident: $call:ident,)*) => {
        $(
            #[test]
            fn $name() {
                dqo_wgpu::benches::$name::tests().iter().for_each(check);
            }
        )*
    };
}
dqo_wgpu::for_each_kernel!(tests);

/// Rates are measured when a device is opened, and are never the same twice.
#[test]
fn how_work_is_cut_changes_no_bit() {
    let cut = [
        matmul::tests,
        grouped_linear::tests,
        grouped_linear_backward_input::tests,
        attention::tests,
        attention_backward_query::tests,
        attention_backward_key_value::tests,
    ];
    // What is added to is cut alike.
    let cases = cut.into_iter().flat_map(|tests| tests()).filter(|case| !case.shape.ends_with("added"));
    let cases: Vec<Case> = cases.collect();
    // Devices of this test's own: what others run meanwhile would count among their dispatches.
    for (whole, other) in open_gpus().iter().zip(open_gpus()) {
        let pieces = other.with_rates(Rates { flops: 1.0, bytes: 1.0 });
        let (mut most_whole, mut most_pieces) = (0, 0);
        for case in &cases {
            let (expected, dispatches) = bits(case, whole);
            let (found, more) = bits(case, &pieces);
            assert!(found == expected, "{} {} on {}", case.kernel, case.shape, whole.description());
            (most_whole, most_pieces) = (most_whole.max(dispatches), most_pieces.max(more));
        }
        assert!(most_whole < most_pieces, "{most_whole} dispatches, {most_pieces} in pieces");
    }
}

/// The outputs of a case, and its dispatches.
fn bits(case: &Case, device: &Device) -> (Vec<Vec<u64>>, u64) {
    let dispatches = || device.as_gpu().map(Gpu::activity).unwrap().dispatches;
    let before = dispatches();
    let bits = |output: Output| output.values.into_iter().map(f64::to_bits).collect();
    let outputs = case.outputs(device).unwrap().into_iter().map(bits).collect();
    (outputs, dispatches() - before)
}

/// They are too large to compute here; that each call fits its tensors is checked where nothing is computed.
#[test]
fn large_rows_are_made_of_what_their_kernels_take() {
    let device = Device::plan(&Device::cpu(Precision::F32));
    let mut count = 0;
    for kernel in CASES {
        for case in large_of(kernel.kernel) {
            assert_eq!(case.kernel, kernel.kernel);
            case.call(&device, &mut case.tensors(&device).unwrap());
            count += 1;
        }
    }
    assert!(count > 60, "{count}");
}
