//! What AdamW keeps of each weight, and its step.

use anyhow::Result;

use super::config::{OptimizerOptions, OptimizerType};
use crate::device::{DType, Device, Tensor, word};
use crate::kernels::{AdamW, AdamW8bit, MOMENT_BLOCK, MOMENT_CODES, dynamic_maps};

/// Values of a weight from which on its moments are in 8 bits, as in bitsandbytes: smaller ones take little.
const LEAST_IN_8_BITS: usize = 4096;

/// The running means of a shard's gradients and of their squares.
pub struct Moments {
    /// Values, or 8-bit codes of them, four a u32.
    pub m: Tensor,
    pub v: Tensor,
    /// Of codes the largest magnitude of each block, of `m` and of `v`.
    pub absmax: Option<[Tensor; 2]>,
}

impl Moments {
    /// Zeros for a shard of a weight of `len` values; `tensor` makes one of a kind, a shape and a type.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new(
        optimizer: OptimizerType,
        len: usize,
        shape: &[usize],
        tensor: impl Fn(&str, &[usize], DType) -> Result<Tensor>,
    ) -> Result<Option<Self>> {
        let values: usize = shape.iter().product();
        let blocks = [values.div_ceil(MOMENT_BLOCK)];
        let absmax = |kind| tensor(kind, &blocks, DType::Real);
        let (codes, in_8_bits) = ([values.div_ceil(4)], len >= LEAST_IN_8_BITS);
        let (shape, dtype, absmax) = match optimizer {
            OptimizerType::Sgd => return Ok(None),
            OptimizerType::Adamw8bit if in_8_bits => {
                (&codes[..], DType::U32, Some([absmax("moments/m_absmax")?, absmax("moments/v_absmax")?]))
            }
            OptimizerType::Adamw | OptimizerType::Adamw8bit => (shape, DType::Real, None),
        };
        let moment = |kind| tensor(kind, shape, dtype);
        Ok(Some(Self { m: moment("moments/m")?, v: moment("moments/v")?, absmax }))
    }

    /// Whether they are in 8 bits.
    pub fn in_8_bits(&self) -> bool {
        self.absmax.is_some()
    }

    /// What a checkpoint has of them, by kind.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut Tensor)> {
        let absmax = self.absmax.iter_mut().flat_map(|[m, v]| [("m_absmax", m), ("v_absmax", v)]);
        [("m", &mut self.m), ("v", &mut self.v)].into_iter().chain(absmax)
    }
}

/// What 8-bit codes stand for, on a device: `[2, 256]`.
///
/// # Errors
/// Where the device fails.
pub fn code_maps(device: &Device, network: &str) -> Result<Tensor> {
    let mut maps = device.tensor(format!("{network}/moments/maps"), &[2, MOMENT_CODES], DType::Real)?;
    let values = dynamic_maps();
    maps.write(0, values.as_flattened().iter().map(|&value| f64::from(value)))?;
    Ok(maps)
}

/// A weight that AdamW steps, in full precision, and its moments.
pub struct Stepped<'a> {
    pub gradient: &'a mut Tensor,
    pub weight: &'a mut Tensor,
    pub m: &'a mut Tensor,
    pub v: &'a mut Tensor,
}

/// What a step of AdamW is to every weight.
pub struct AdamStep {
    gradient_scale: f32,
    step_size: f32,
    decay: f32,
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    inverse_sqrt_correction2: f32,
    epsilon: f32,
}

impl AdamStep {
    /// Step `step`, from 1, of gradients that are multiplied by `clip`.
    pub fn new(options: &OptimizerOptions, step: usize, learning_rate: f64, clip: f64) -> Self {
        let OptimizerOptions { adam_beta1: beta1, adam_beta2: beta2, adam_epsilon: epsilon, weight_decay, .. } =
            options;
        let correction1 = 1.0 - beta1.powf(step as f64);
        let correction2 = 1.0 - beta2.powf(step as f64);
        Self {
            gradient_scale: clip as f32,
            step_size: (learning_rate / correction1) as f32,
            decay: (learning_rate * weight_decay) as f32,
            beta1: *beta1 as f32,
            beta2: *beta2 as f32,
            rest1: (1.0 - beta1) as f32,
            rest2: (1.0 - beta2) as f32,
            inverse_sqrt_correction2: (1.0 / correction2.sqrt()) as f32,
            epsilon: *epsilon as f32,
        }
    }

    /// Steps two weights; their gradients become zero.
    pub fn run(&self, device: &Device, [one, two]: &mut [Stepped; 2]) {
        device.run(AdamW {
            count: word(one.gradient.len()),
            gradient: one.gradient,
            weight: one.weight,
            m: one.m,
            v: one.v,
            count2: word(two.gradient.len()),
            gradient2: two.gradient,
            weight2: two.weight,
            m2: two.m,
            v2: two.v,
            gradient_scale: self.gradient_scale,
            step_size: self.step_size,
            decay: self.decay,
            beta1: self.beta1,
            beta2: self.beta2,
            inverse_sqrt_correction2: self.inverse_sqrt_correction2,
            epsilon: self.epsilon,
        });
    }

    /// Steps a weight by moments in 8 bits; its gradient becomes zero.
    pub fn run_in_8_bits(
        &self,
        device: &Device,
        maps: &Tensor,
        Stepped { gradient, weight, m, v }: Stepped,
        [m_absmax, v_absmax]: &mut [Tensor; 2],
    ) {
        device.run(AdamW8bit {
            maps,
            count: word(gradient.len()),
            gradient,
            weight,
            m,
            m_absmax,
            v,
            v_absmax,
            gradient_scale: self.gradient_scale,
            step_size: self.step_size,
            decay: self.decay,
            beta1: self.beta1,
            beta2: self.beta2,
            rest1: self.rest1,
            rest2: self.rest2,
            inverse_sqrt_correction2: self.inverse_sqrt_correction2,
            epsilon: self.epsilon,
        });
    }
}
