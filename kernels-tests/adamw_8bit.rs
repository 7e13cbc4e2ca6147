//! AdamW with moments in 8 bits against bitsandbytes: the maps, and steps with all of their state.
//! The goldens are made by tools/goldens/adamw8bit.py.

use std::collections::BTreeMap;
use std::fs;

use dqo_wgpu::device::{DType, Device, Precision, Tensor};
use dqo_wgpu::kernels::{AdamW8bit, dynamic_maps};
use safetensors::SafeTensors;

use crate::harness::gpus;
use crate::model::golden;

const GOLDEN: &str = "adamw8bit/steps.safetensors";
const STEPS: usize = 5;
// As in the script.
const LEARNING_RATE: f64 = 2e-3;
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.99;
const EPSILON: f64 = 1e-8;
const WEIGHT_DECAY: f64 = 0.1;

struct Goldens(BTreeMap<String, Vec<u8>>);

impl Goldens {
    fn read() -> Self {
        let bytes = fs::read(golden(GOLDEN)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        Self(file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect())
    }

    fn floats(&self, name: &str) -> Vec<f64> {
        bytemuck::pod_collect_to_vec::<u8, f32>(&self.0[name]).into_iter().map(f64::from).collect()
    }

    /// A moment's codes after a step, zeros before the first.
    fn codes(&self, moment: &str, step: usize, count: usize) -> Vec<u8> {
        if step == 0 { vec![0; count] } else { self.0[&format!("{moment}.{step}")].clone() }
    }

    /// The same of its blocks' largest magnitudes.
    fn absmax(&self, moment: &str, step: usize, count: usize) -> Vec<f64> {
        let blocks = count.div_ceil(256);
        if step == 0 { vec![0.0; blocks] } else { self.floats(&format!("{moment}_absmax.{step}")) }
    }
}

fn real(device: &Device, values: &[f64]) -> Tensor {
    let mut tensor = device.tensor("test", &[values.len()], DType::Real).unwrap();
    tensor.write(0, values.iter().copied()).unwrap();
    tensor
}

fn words(device: &Device, codes: &[u8]) -> Tensor {
    let words: Vec<u32> = bytemuck::pod_collect_to_vec(codes);
    let mut tensor = device.tensor("test", &[words.len()], DType::U32).unwrap();
    tensor.write_u32(0, &words).unwrap();
    tensor
}

/// Holds what a step made against bitsandbytes', to 1e-6 of the value or of `least`: some roundings of f32.
#[track_caller]
fn near(found: &Tensor, expected: &[f64], least: f64, label: &str) {
    for (i, (found, expected)) in found.read(expected.len()).unwrap().iter().zip(expected).enumerate() {
        let most = 1e-6 * expected.abs().max(least);
        assert!((found - expected).abs() <= most, "{label}[{i}]: {found}, not {expected}");
    }
}

/// Codes are those of bitsandbytes, but for values in the middle between two codes: by f32's rounding they may have either. Such
/// values are few. Codes of a block of zeros say nothing.
#[track_caller]
fn same_codes(found: &Tensor, expected: &[u8], absmax: &[f64], label: &str) {
    let found = found.read_bytes(expected.len() / 4).unwrap();
    let mut off = 0;
    for (i, (found, expected)) in found.iter().zip(expected).enumerate().filter(|(i, _)| absmax[i / 256] > 0.0) {
        assert!(found.abs_diff(*expected) <= 1, "{label}[{i}]: {found}, not {expected}");
        off += usize::from(found != expected);
    }
    assert!(off <= 2, "{label}: {off} of {} codes are others", expected.len());
}

fn check_step(device: &Device, goldens: &Goldens, step: usize) {
    let label = |what: &str| format!("{what} after step {step} on {}", device.description());
    let weights = goldens.floats(&format!("weight.{}", step - 1));
    let count = weights.len();
    let (mut weight, mut gradient) =
        (real(device, &weights), real(device, &goldens.floats(&format!("gradient.{step}"))));
    let [mut m, mut v] = ["m", "v"].map(|moment| words(device, &goldens.codes(moment, step - 1, count)));
    let [mut m_absmax, mut v_absmax] = ["m", "v"].map(|moment| real(device, &goldens.absmax(moment, step - 1, count)));
    device.run(AdamW8bit {
        maps: &real(device, &goldens.floats("maps")),
        gradient: &mut gradient,
        weight: &mut weight,
        m: &mut m,
        m_absmax: &mut m_absmax,
        v: &mut v,
        v_absmax: &mut v_absmax,
        count: count as u32,
        gradient_scale: 1.0,
        step_size: (LEARNING_RATE / (1.0 - BETA1.powf(step as f64))) as f32,
        decay: (LEARNING_RATE * WEIGHT_DECAY) as f32,
        beta1: BETA1 as f32,
        beta2: BETA2 as f32,
        rest1: (1.0 - BETA1) as f32,
        rest2: (1.0 - BETA2) as f32,
        inverse_sqrt_correction2: (1.0 / (1.0 - BETA2.powf(step as f64)).sqrt()) as f32,
        epsilon: EPSILON as f32,
    });
    // Weights are a tenth on average.
    near(&weight, &goldens.floats(&format!("weight.{step}")), 0.1, &label("weight"));
    near(&gradient, &vec![0.0; count], 0.0, &label("gradient"));
    for (moment, codes, absmax) in [("m", &m, &m_absmax), ("v", &v, &v_absmax)] {
        let expected = goldens.absmax(moment, step, count);
        near(absmax, &expected, 0.0, &label(&format!("{moment}_absmax")));
        same_codes(codes, &goldens.codes(moment, step, count), &expected, &label(moment));
    }
}

#[test]
fn a_step_in_8_bits_is_bitsandbytes() {
    let goldens = Goldens::read();
    for device in [Device::cpu(Precision::F32), Device::cpu(Precision::F64)].iter().chain(gpus()) {
        (1..=STEPS).for_each(|step| check_step(device, &goldens, step));
    }
}

#[test]
fn the_maps_are_bitsandbytes_to_the_bit() {
    let expected: Vec<f32> = bytemuck::pod_collect_to_vec(&Goldens::read().0["maps"]);
    for (code, (found, expected)) in dynamic_maps().as_flattened().iter().zip(&expected).enumerate() {
        assert_eq!(found.to_bits(), expected.to_bits(), "code {code}: {found:e}, not {expected:e}");
    }
}
