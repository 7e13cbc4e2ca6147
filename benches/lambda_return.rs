use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::LambdaReturn;

/// Returns over sequences of these lengths.
pub fn case(lengths: &[usize], lambda: f32, paper_tail: bool) -> Case {
    let starts = super::case::starts(lengths);
    let positions = lengths.iter().sum::<usize>();
    let sequences = lengths.len();
    let tail = if paper_tail { ", paper" } else { "" };
    let shape = format!("{}, lambda {lambda}{tail}", super::case::lengths_label(lengths));
    Case::new(LambdaReturn::SIGNATURE, shape, Work::Bytes(12.0 * positions as f64))
        .u32s("starts", starts)
        .input("reward", &[positions])
        .input("value", &[positions])
        .input("bootstrap", &[sequences])
        .output("returns", &[positions])
        .run(move |device, tensors| {
            let [starts, reward, value, bootstrap, returns] = tensors else { unreachable!() };
            let (sequences, paper_tail) = (sequences as u32, paper_tail.into());
            device.run(LambdaReturn { starts, reward, value, bootstrap, returns, sequences, lambda, paper_tail });
        })
}

/// The rows of the table.
pub fn bench() -> Vec<Case> {
    vec![case(&[4096; 512], 0.95, false), case(&[100_000], 0.95, false)]
}
