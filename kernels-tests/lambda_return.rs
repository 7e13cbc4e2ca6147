use dqo_wgpu::benches::lambda_return::case;

use crate::harness::check;

#[test]
fn agrees_with_the_serial_f64_recurrence() {
    for lambda in [1.0, 0.95, 0.5, 0.0] {
        for paper_tail in [false, true] {
            for lengths in [vec![1], vec![37, 1, 123], vec![512, 513, 511, 1024, 2]] {
                check(&case(&lengths, lambda, paper_tail), 1e-5);
            }
        }
    }
}

#[test]
fn agrees_on_one_sequence_of_100_000() {
    check(&case(&[100_000], 1.0, false), 1e-5);
    check(&case(&[100_000], 0.95, false), 1e-5);
    check(&case(&[100_000], 0.999, true), 1e-5);
}

#[test]
fn agrees_on_512_sequences_of_4096() {
    check(&case(&[4096; 512], 1.0, false), 1e-5);
    check(&case(&[4096; 512], 0.95, false), 1e-5);
}
