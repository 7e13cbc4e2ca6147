//! The optimizer: one parameter group a network, clipped and stepped by itself.

use anyhow::Result;

use super::config::{OptimizerOptions, OptimizerType};
use crate::device::{DType, Device, Tensor};
use crate::kernels::{AdamW, RoundBf16, SUM_SQUARES_BLOCK, Sgd, SumSquares};
use crate::model::{Parameter, Shard};

/// The state of one network's weights.
pub struct ParameterGroup {
    shards: Vec<ShardState>,
    /// Sums of squares of the gradients, block by block.
    partials: Tensor,
    options: OptimizerOptions,
}

/// What the optimizer keeps of a shard.
struct ShardState {
    /// The name in a checkpoint: the parameter's, and its first row where it is cut.
    name: String,
    moments: Option<Moments>,
    /// The weights in full precision, where the network's are bf16.
    master: Option<Tensor>,
}

struct Moments {
    m: Tensor,
    v: Tensor,
}

/// One step of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Its number, from 1.
    pub step: usize,
    pub learning_rate: f64,
    /// Of the whole group's gradient, before clipping.
    pub gradient_norm: f64,
}

impl ParameterGroup {
    /// The state for a network's weights, as they are now. `network` names it in memory plans and checkpoints.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new<'a>(
        device: &Device,
        network: &str,
        parameters: impl Iterator<Item = &'a mut Parameter>,
        options: &OptimizerOptions,
    ) -> Result<Self> {
        let mut shards = Vec::new();
        let mut blocks = 0;
        for parameter in parameters {
            for shard in parameter.shards().iter().filter(|shard| shard.gradient.is_some()) {
                let name = match shard.first_row {
                    0 => parameter.name().to_owned(),
                    first_row => format!("{}[{first_row}..]", parameter.name()),
                };
                let tensor =
                    |kind: &str| device.tensor(format!("{network}/{kind}/{name}"), shard.weight.shape(), DType::Real);
                let moments = match options.optimizer {
                    OptimizerType::Adamw => Some(Moments { m: tensor("moments/m")?, v: tensor("moments/v")? }),
                    OptimizerType::Sgd => None,
                };
                let master = if shard.weight.dtype() == DType::Bf16 {
                    let mut master = tensor("masters")?;
                    master.copy_from(&shard.weight)?;
                    Some(master)
                } else {
                    None
                };
                blocks += shard.weight.len().div_ceil(SUM_SQUARES_BLOCK);
                shards.push(ShardState { name, moments, master });
            }
        }
        let partials = device.tensor(format!("{network}/gradient_norm"), &[blocks], DType::Real)?;
        Ok(Self { shards, partials, options: options.clone() })
    }

    /// The norm of the whole group's gradient.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn gradient_norm<'a>(
        &mut self,
        device: &Device,
        parameters: impl Iterator<Item = &'a mut Parameter>,
    ) -> Result<f64> {
        let mut first_partial = 0;
        for gradient in trained(parameters).filter_map(|shard| shard.gradient.as_ref()) {
            let (count, partials) = (gradient.len() as u32, &mut self.partials);
            device.run(SumSquares { x: gradient, partials, count, first_partial });
            first_partial += gradient.len().div_ceil(SUM_SQUARES_BLOCK) as u32;
        }
        Ok(self.partials.read(first_partial as usize)?.iter().sum::<f64>().sqrt())
    }

    /// Steps the weights against their gradients.
    pub fn step<'a>(&mut self, device: &Device, parameters: impl Iterator<Item = &'a mut Parameter>, update: Update) {
        let Update { step, learning_rate, gradient_norm } = update;
        let OptimizerOptions { optimizer, weight_decay, max_grad_norm, .. } = self.options;
        let OptimizerOptions { adam_beta1: beta1, adam_beta2: beta2, adam_epsilon: epsilon, .. } = self.options;
        // As torch.nn.utils.clip_grad_norm_ has it.
        let clip = if max_grad_norm > 0.0 { (max_grad_norm / (gradient_norm + 1e-6)).min(1.0) } else { 1.0 };
        let correction1 = 1.0 - beta1.powf(step as f64);
        let correction2 = 1.0 - beta2.powf(step as f64);
        for (shard, state) in trained(parameters).zip(&mut self.shards) {
            let (stored, Some(gradient)) = shard.parts_mut() else { continue };
            let count = gradient.len() as u32;
            let weight = state.master.as_mut().unwrap_or(&mut *stored);
            match (optimizer, &mut state.moments) {
                (OptimizerType::Adamw, Some(Moments { m, v })) => device.run(AdamW {
                    gradient,
                    weight,
                    m,
                    v,
                    count,
                    gradient_scale: clip as f32,
                    step_size: (learning_rate / correction1) as f32,
                    decay: (learning_rate * weight_decay) as f32,
                    beta1: beta1 as f32,
                    beta2: beta2 as f32,
                    inverse_sqrt_correction2: (1.0 / correction2.sqrt()) as f32,
                    epsilon: epsilon as f32,
                }),
                _ => device.run(Sgd { gradient, weight, count, step_size: (learning_rate * clip) as f32 }),
            }
            if let Some(master) = &state.master {
                device.run(RoundBf16 { x: master, y: stored, count });
            }
        }
    }

    /// Everything that is not in the network itself, by name.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = (String, &mut Tensor)> {
        self.shards.iter_mut().flat_map(|state| {
            let name = &state.name;
            let moments = state
                .moments
                .iter_mut()
                .flat_map(move |Moments { m, v }| [(format!("m/{name}"), m), (format!("v/{name}"), v)]);
            moments.chain(state.master.iter_mut().map(move |master| (format!("master/{name}"), master)))
        })
    }
}

/// The shards of the trained weights, in order.
fn trained<'a>(parameters: impl Iterator<Item = &'a mut Parameter>) -> impl Iterator<Item = &'a mut Shard> {
    parameters.flat_map(Parameter::shards_mut).filter(|shard| shard.gradient.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Precision;
    use crate::model::Storage;
    use crate::train::TrainConfig;

    #[test]
    fn only_what_is_trained_has_a_state_and_is_stepped() {
        let device = Device::cpu(Precision::F32);
        let parameter = |name: &str, trainable| {
            let storage = Storage { dtype: DType::Bf16, trainable };
            let mut parameter = Parameter::new(&device, "policy", name, &[4, 4], storage).unwrap();
            parameter.shards_mut()[0].parts_mut().0.write(0, [1.0; 16].into_iter()).unwrap();
            parameter
        };
        let mut parameters = [parameter("frozen", false), parameter("trained", true), parameter("frozen too", false)];
        let options = TrainConfig::default().optimizer;
        let mut group = ParameterGroup::new(&device, "policy", parameters.iter_mut(), &options).unwrap();
        let names: Vec<_> = group.tensors_mut().map(|(name, _)| name).collect();
        assert_eq!(names, ["m/trained", "v/trained", "master/trained"]);

        for gradient in parameters.iter_mut().flat_map(|parameter| &mut parameter.shards_mut()[0].gradient) {
            gradient.write(0, [1.0; 16].into_iter()).unwrap();
        }
        assert_eq!(group.gradient_norm(&device, parameters.iter_mut()).unwrap(), 4.0);
        group.step(&device, parameters.iter_mut(), Update { step: 1, learning_rate: 0.5, gradient_norm: 4.0 });
        // The first step of AdamW is the learning rate against the gradient's sign.
        let first = |parameter: &Parameter| parameter.vector().read(1).unwrap()[0];
        assert_eq!(parameters.each_ref().map(first), [1.0, 0.5, 1.0]);
    }
}
