//! Tokens are drawn from the distribution that the settings name: frequencies against exact probabilities.

use dqo_wgpu::benches::sample_token::{DRAWS, Draw};
use dqo_wgpu::device::{DType, Device, Precision, Tensor};
use dqo_wgpu::kernels::SampleToken;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::harness::gpus;

/// The distribution that a draw is from, computed without thought for speed: sorted, cut, renormalised step by step.
fn exact(logits: &[f64], draw: Draw) -> Vec<f64> {
    let normalized = |p: &mut Vec<f64>| {
        let sum: f64 = p.iter().sum();
        p.iter_mut().for_each(|p| *p /= sum);
    };
    let mut p: Vec<f64> = logits.iter().map(|x| (x / f64::from(draw.temperature)).exp()).collect();
    normalized(&mut p);
    let by_rank = |p: &[f64]| {
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
        order
    };
    if draw.top_k > 0 {
        by_rank(&p).into_iter().skip(draw.top_k as usize).for_each(|token| p[token] = 0.0);
        normalized(&mut p);
    }
    let mut above = 0.0;
    for token in by_rank(&p) {
        let own = p[token];
        if above >= f64::from(draw.top_p) {
            p[token] = 0.0;
        }
        above += own;
    }
    normalized(&mut p);
    let largest = by_rank(&p)[0];
    let least = f64::from(draw.min_prob);
    p.iter_mut().enumerate().for_each(|(token, p)| *p = if *p >= least || token == largest { *p } else { 0.0 });
    normalized(&mut p);
    p
}

/// How often each token is drawn from one distribution in `count` draws with uniform numbers.
fn frequencies(device: &Device, logits: &[f64], draw: Draw, count: usize) -> Vec<u64> {
    let (cols, rows) = (logits.len(), 1000);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let real = |shape: &[usize]| device.tensor("test", shape, DType::Real).unwrap();
    let (mut x, mut uniforms, mut logp): (Tensor, Tensor, Tensor) = (real(&[rows, cols]), real(&[rows]), real(&[rows]));
    let mut tokens = device.tensor("test", &[rows], DType::U32).unwrap();
    x.write(0, (0..rows * cols).map(|i| logits[i % cols])).unwrap();
    let mut frequencies = vec![0; cols];
    for _ in 0..count / rows {
        uniforms.write(0, (0..rows).map(|_| f64::from(rng.random::<f32>()))).unwrap();
        device.run(SampleToken {
            logits: &x,
            uniforms: &uniforms,
            tokens: &mut tokens,
            logp: &mut logp,
            rows: rows as u32,
            cols: cols as u32,
            stride: cols as u32,
            inverse_temperature: 1.0 / draw.temperature,
            top_k: draw.top_k,
            top_p: draw.top_p,
            min_prob: draw.min_prob,
        });
        tokens.read(rows).unwrap().into_iter().for_each(|token| frequencies[token as usize] += 1);
    }
    frequencies
}

/// The quantile of the chi-square distribution that 99.9 % lie below, by Wilson and Hilferty's approximation.
fn chi_square_999(degrees: f64) -> f64 {
    let (z, spread) = (3.0902, 2.0 / (9.0 * degrees));
    degrees * (1.0 - spread + z * spread.sqrt()).powi(3)
}

#[test]
fn draws_have_the_exact_truncated_distribution() {
    const DRAWN: usize = 100_000;
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let logits: Vec<f64> = (0..40).map(|_| f64::from(rng.random_range(-2.5f32..2.5))).collect();
    let cpu = Device::cpu(Precision::F32);
    for device in std::iter::once(&cpu).chain(gpus().iter().take(1)) {
        for draw in DRAWS.into_iter().filter(|draw| draw.temperature > 0.0) {
            let expected = exact(&logits, draw);
            let found = frequencies(device, &logits, draw, DRAWN);
            let possible: Vec<usize> = (0..logits.len()).filter(|&token| expected[token] > 0.0).collect();
            let outside: u64 =
                (0..logits.len()).filter(|token| !possible.contains(token)).map(|token| found[token]).sum();
            assert_eq!(outside, 0, "{draw:?}: a token was drawn that does not pass");
            let statistic: f64 = possible
                .iter()
                .map(|&token| {
                    let mean = expected[token] * DRAWN as f64;
                    (found[token] as f64 - mean).powi(2) / mean
                })
                .sum();
            let limit = chi_square_999((possible.len() - 1).max(1) as f64);
            assert!(statistic < limit, "{draw:?} on {}: {statistic}, at p = 0.001 {limit}", device.description());
        }
    }
}
