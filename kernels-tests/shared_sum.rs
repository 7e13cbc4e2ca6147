//! Gradients on their way between ranks: the way of a rank by itself, whose bytes come back to it.

use dqo_wgpu::device::{DType, Device, Precision};
use dqo_wgpu::model::{Parameter, Storage};
use dqo_wgpu::ranks::Ranks;
use dqo_wgpu::train::{BUCKET, SharedSum, Turn};

use crate::harness::gpus;

/// More buckets than a GPU has on its way at once; some with parts of several weights, some a part of one.
const SIZES: [usize; 5] = [12, 3 * BUCKET + 8, BUCKET, 19 * BUCKET, 4];

/// Whole numbers: their sums are exact.
fn gradient(tensor: usize, turn: usize, length: usize) -> impl ExactSizeIterator<Item = f64> {
    (0..length).map(move |index| ((index * (tensor + 3) + 7 * turn) % 1009) as f64)
}

/// Two turns, in which some weights are heard of while the rest is computed.
fn adds_up_and_comes_back(device: &Device) {
    let storage = Storage::trained(DType::Real);
    let parameter = |(tensor, &length): (usize, &usize)| {
        Parameter::new(device, "policy", &format!("weight {tensor}"), &[length], storage).unwrap()
    };
    let mut parameters: Vec<Parameter> = SIZES.iter().enumerate().map(parameter).collect();
    let mut sum = SharedSum::new(device, &Ranks::alone(), SIZES.iter().sum());
    for turn in 0..2 {
        for (tensor, parameter) in parameters.iter_mut().enumerate() {
            let before = parameter.vector_gradient().unwrap();
            assert!(turn == 0 || before.read(SIZES[tensor]).unwrap().iter().all(|&value| value == 0.0));
            before.write(0, gradient(tensor, turn, SIZES[tensor])).unwrap();
        }
        sum.begin(Turn { micro_batches: 1, is_first: turn == 0, is_last: turn == 1 });
        let (first, rest) = parameters.split_at_mut(2);
        sum.hear(&mut first.iter_mut()).unwrap();
        sum.hear(&mut rest[..1].iter_mut()).unwrap();
        sum.end(parameters.iter_mut().filter_map(Parameter::vector_gradient).collect()).unwrap();
    }
    for (tensor, (parameter, length)) in parameters.iter_mut().zip(SIZES).enumerate() {
        let sums = parameter.vector_gradient().unwrap().read(length).unwrap();
        let expected = gradient(tensor, 0, length).zip(gradient(tensor, 1, length)).map(|(one, two)| one + two);
        assert!(sums.into_iter().eq(expected), "weight {tensor}");
    }
}

/// Its model of the cost counts the calls.
#[test]
fn the_bench_of_ranks_has_the_buckets_that_there_are() {
    let line = format!("\nBUCKET_BYTES = {} << 20\n", (size_of::<f32>() * BUCKET) >> 20);
    assert!(include_str!("../tools/bench_ranks").contains(&line), "it says something else than{line}");
}

#[test]
fn gradients_add_up_and_come_back_on_the_cpu() {
    adds_up_and_comes_back(&Device::cpu(Precision::F32));
    adds_up_and_comes_back(&Device::cpu(Precision::F64));
}

#[test]
fn gradients_add_up_and_come_back_on_the_gpu() {
    gpus().iter().take(1).for_each(adds_up_and_comes_back);
}
