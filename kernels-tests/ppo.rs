use dqo_wgpu::benches::ppo::case;
use dqo_wgpu::device::{Device, Precision};

use crate::harness::check;

#[test]
fn agrees_with_the_f64_twin_with_and_without_clipping() {
    for spread in [0.0, 0.1, 0.6] {
        for lengths in [vec![1], vec![37, 1, 123], vec![512, 63, 64, 65, 2]] {
            check(&case(&lengths, spread), 1e-5);
        }
    }
}

/// The values' own clipping ends in f32 where their squares do; ratios are held at exp(20), which the sums over a sequence
/// can bear.
#[test]
fn ratios_do_not_overflow() {
    check(&case(&[37, 1, 123], 300.0), 1e-5);
}

#[test]
fn clips_both_ways() {
    let device = Device::cpu(Precision::F64);
    for (spread, share) in [(0.1, 0.0..=0.0), (0.6, 0.2..=0.6)] {
        let outputs = case(&[1000], spread).outputs(&device).unwrap();
        for gradient in &outputs[..2] {
            let zeros = gradient.values.iter().filter(|value| **value == 0.0).count() as f64 / 1000.0;
            assert!(share.contains(&zeros), "{}: {zeros} at {spread}", gradient.name);
        }
        let statistics = &outputs[2].values[12..24];
        assert!(share.contains(&(statistics[3] / 1000.0)) && share.contains(&(statistics[4] / 1000.0)));
    }
}
