use super::case::{Case, Work};
use crate::device::Call;
use crate::kernels::{DRO_STATISTICS, Dro};

/// DRO over sequences of these lengths.
fn case(lengths: &[usize]) -> Case {
    let starts = super::case::starts(lengths);
    let positions = lengths.iter().sum::<usize>();
    let sequences = lengths.len();
    let shape = super::case::lengths_label(lengths);
    Case::new(Dro::SIGNATURE, shape, Work::Bytes(28.0 * positions as f64))
        .u32s("starts", starts)
        .input("rollout", &[positions, 4])
        .input("bootstrap", &[sequences])
        .input("logp", &[positions])
        .input("value", &[positions])
        .output("dlogp", &[positions])
        .output("dvalue", &[positions])
        .output("statistics", &[sequences + 2, DRO_STATISTICS])
        .run(move |device, tensors| {
            let [starts, rollout, bootstrap, logp, value, dlogp, dvalue, statistics] = tensors else { unreachable!() };
            device.run(Dro {
                starts,
                rollout,
                bootstrap,
                logp,
                value,
                dlogp,
                dvalue,
                statistics,
                sequences: sequences as u32,
                first_sequence: 1,
                batch_sequences: 2 * sequences as u32,
                beta: 0.03,
            });
        })
}

/// What is tested.
pub fn tests() -> Vec<Case> {
    let lengths: [&[usize]; 4] = [&[1], &[37, 1, 123], &[512, 513, 511, 2], &[10_000]];
    lengths.map(case).into()
}

/// The row of the table.
pub fn bench() -> Vec<Case> {
    vec![case(&[512; 512])]
}
