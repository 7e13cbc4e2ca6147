//! DRO is DQO with the whole response as one action.

use dqo_wgpu::device::{DType, Device, Tensor};
use dqo_wgpu::kernels::{DQO_STATISTICS, DRO_STATISTICS, Dqo, Dro};

use crate::training::devices;

const BETA: f32 = 0.3;

/// dlogp and dvalue of DRO and, with the importance weights off (DRO has none), of DQO.
fn both(device: &Device, starts: &[u32], positions: usize, bootstrap: &[f64]) -> [[Vec<f64>; 2]; 2] {
    let real = |shape: &[usize], values: Vec<f64>| {
        let mut tensor = device.tensor("test", shape, DType::Real).unwrap();
        tensor.write(0, values.into_iter()).unwrap();
        tensor
    };
    let zeros = |shape: &[usize]| real(shape, vec![0.0; shape.iter().product()]);
    let sequences = starts.len() - 1;
    let wave = |t: usize, pitch: f64| (pitch * (t + 1) as f64).sin();
    let mut starts_tensor = device.tensor("starts", &[starts.len()], DType::U32).unwrap();
    starts_tensor.write_u32(0, starts).unwrap();
    let row = |t: usize| [wave(t, 0.7) - 2.0, wave(t, 0.9) - 2.0, wave(t, 1.7), (t % 2) as f64];
    let rollout = real(&[positions, 4], (0..positions).flat_map(row).collect());
    let bootstrap = real(&[sequences], bootstrap.to_vec());
    let logp = real(&[positions], (0..positions).map(|t| wave(t, 1.3) - 2.0).collect());
    let value = real(&[positions], (0..positions).map(|t| wave(t, 2.3)).collect());
    let outputs = || [zeros(&[positions]), zeros(&[positions])];
    let read = |tensors: [Tensor; 2]| tensors.map(|tensor| tensor.read(positions).unwrap());

    let ([mut dlogp, mut dvalue], mut statistics) = (outputs(), zeros(&[sequences, DRO_STATISTICS]));
    device.run(Dro {
        starts: &starts_tensor,
        rollout: &rollout,
        bootstrap: &bootstrap,
        logp: &logp,
        value: &value,
        dlogp: &mut dlogp,
        dvalue: &mut dvalue,
        statistics: &mut statistics,
        sequences: sequences as u32,
        first_sequence: 0,
        batch_sequences: 5,
        beta: BETA,
    });
    let dro = read([dlogp, dvalue]);

    let ([mut dlogp, mut dvalue], mut statistics) = (outputs(), zeros(&[sequences, DQO_STATISTICS]));
    device.run(Dqo {
        starts: &starts_tensor,
        rollout: &rollout,
        bootstrap: &bootstrap,
        logp: &logp,
        value: &value,
        dlogp: &mut dlogp,
        dvalue: &mut dvalue,
        statistics: &mut statistics,
        sequences: sequences as u32,
        first_sequence: 0,
        batch_sequences: 5,
        beta: BETA,
        lambda: 1.0,
        policy_is: 0,
        value_is: 0,
        paper_tail: 0,
        td_target: 0,
        mean_reduction: 0,
    });
    [dro, read([dlogp, dvalue])]
}

fn same(found: &[f64], expected: &[f64], label: &str) {
    for (t, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= 1e-6, "{label} at {t}: {found}, not {expected}");
    }
}

/// A response of one token is one action: there the two methods are the same, to 1e-6 for sums of numbers around 1.
#[test]
fn dqo_with_the_whole_response_as_one_action_is_dro() {
    for (device, _) in devices() {
        let starts: Vec<u32> = (0..=40).collect();
        let bootstrap: Vec<f64> = (0..40).map(|b| 0.1 * f64::from(b)).collect();
        let [dro, dqo] = both(&device, &starts, 40, &bootstrap);
        same(&dro[0], &dqo[0], "dlogp");
        same(&dro[1], &dqo[1], "dvalue");
        assert!(dro[0].iter().all(|gradient| *gradient != 0.0));
    }
}

/// Over a response of several tokens, at lambda 1, DQO's first action sees what DRO sees: its policy residual is
/// e_1 = V_1 - G_1 = -delta, and so its value residual. DRO gives every token the first one's gradient.
#[test]
fn over_longer_responses_dro_is_dqos_first_action() {
    for (device, _) in devices() {
        let starts = [0, 7, 8, 31];
        let [dro, dqo] = both(&device, &starts, 31, &[0.4, -0.2, 0.9]);
        for range in starts.windows(2) {
            let (start, end) = (range[0] as usize, range[1] as usize);
            same(&dro[0][start..end], &vec![dqo[0][start]; end - start], "dlogp");
            same(&dro[1][start..=start], &dqo[1][start..=start], "dvalue");
            assert!(dro[1][start + 1..end].iter().all(|gradient| *gradient == 0.0));
        }
    }
}
