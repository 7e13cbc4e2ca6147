use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::SequenceSum;

/// Sums over sequences of these lengths.
fn case(lengths: &[usize]) -> Case {
    let starts = super::case::starts(lengths);
    let positions = lengths.iter().sum::<usize>();
    let sequences = lengths.len();
    let shape = super::case::lengths_label(lengths);
    Case::new(SequenceSum::SIGNATURE, shape, Work::Bytes(4.0 * positions as f64))
        .u32s("starts", starts)
        .input("x", &[positions])
        .output("sums", &[sequences + 2])
        .run(move |device, tensors| {
            let [starts, x, sums] = tensors else { unreachable!() };
            device.run(SequenceSum { starts, x, sums, sequences: sequences as u32, first_sequence: 1 });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let lengths: [&[usize]; 3] = [&[1], &[37, 1, 123], &[5000, 3]];
    lengths.map(case).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(&[512; 512])]
}
