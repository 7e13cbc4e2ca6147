//! PPO's clipping takes gradients away on both sides.

use dqo_wgpu::benches::ppo::case;
use dqo_wgpu::device::{Device, Precision};

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
