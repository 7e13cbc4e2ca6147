use super::case::{Case, Work};
use super::serial_return;
use crate::device::Call;
use crate::kernels::LambdaReturn;

/// Returns over sequences of these lengths.
fn case(lengths: &[usize], lambda: f32, paper_tail: bool) -> Case {
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

/// What is tested.
pub fn tests() -> Vec<Case> {
    let lengths: [&[usize]; 3] = [&[1], &[37, 1, 123], &[512, 513, 511, 1024, 2]];
    let short = [1.0, 0.95, 0.5, 0.0].into_iter().flat_map(|lambda| {
        [false, true].into_iter().flat_map(move |paper_tail| lengths.map(|lengths| case(lengths, lambda, paper_tail)))
    });
    let one_long = [(1.0, false), (0.95, false), (0.999, true)].map(|(lambda, tail)| case(&[100_000], lambda, tail));
    let many = [1.0, 0.95].map(|lambda| case(&[4096; 512], lambda, false));
    short.chain(one_long).chain(many).collect()
}

/// The rows of the table, and those of the serial recurrence that they are held against.
pub fn bench() -> Vec<Case> {
    let parallel = [case(&[4096; 512], 0.95, false), case(&[100_000], 0.95, false)];
    parallel.into_iter().chain(serial_return::bench()).collect()
}
