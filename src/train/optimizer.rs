//! The optimizer: one parameter group a network, clipped and stepped by itself.

use anyhow::{Error, Result};

use super::config::{OptimizerOptions, OptimizerType};
use super::moments::{AdamStep, Moments, Stepped, code_maps};
use crate::device::{DType, Device, Tensor};
use crate::kernels::{RoundBf16, SUM_SQUARES_BLOCK, Sgd, SumSquares};
use crate::model::{Parameter, Shard};

/// The state of one network's weights.
pub struct ParameterGroup {
    shards: Vec<ShardState>,
    /// Nothing, to be stepped beside the last weight by AdamW, which takes two at a time, where their number is odd:
    /// gradient, weight, moments.
    partner: Option<[Tensor; 4]>,
    /// What the codes of moments in 8 bits stand for, where there are any.
    maps: Option<Tensor>,
    /// Sums of squares of the gradients, block by block.
    partials: Tensor,
    /// The sums of the gradients of a step's micro-batches so far, shard by shard; none where a step has a single one.
    totals: Vec<Tensor>,
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
    /// The state for a network's weights, as they are now. `network` names it in memory plans and checkpoints; with `adds_up`
    /// there is room to add up the gradients of several micro-batches.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn new<'a>(
        device: &Device,
        network: &str,
        parameters: impl Iterator<Item = &'a mut Parameter>,
        options: &OptimizerOptions,
        adds_up: bool,
    ) -> Result<Self> {
        let mut shards = Vec::new();
        let mut totals = Vec::new();
        let mut blocks = 0;
        for parameter in parameters {
            for shard in parameter.shards().iter().filter(|shard| shard.gradient.is_some()) {
                let name = match shard.first_row {
                    0 => parameter.name().to_owned(),
                    first_row => format!("{}[{first_row}..]", parameter.name()),
                };
                let tensor = |kind: &str, shape: &[usize], dtype| {
                    device.tensor(format!("{network}/{kind}/{name}"), shape, dtype)
                };
                let shape = shard.weight.shape();
                let moments = Moments::new(options.optimizer, parameter.len(), shape, tensor)?;
                let real = |kind| tensor(kind, shape, DType::Real);
                let master = if shard.weight.dtype() == DType::Bf16 {
                    let mut master = real("masters")?;
                    master.copy_from(&shard.weight)?;
                    Some(master)
                } else {
                    None
                };
                blocks += shard.weight.len().div_ceil(SUM_SQUARES_BLOCK);
                if adds_up {
                    totals.push(real("gradient_totals")?);
                }
                shards.push(ShardState { name, moments, master });
            }
        }
        let moments = || shards.iter().filter_map(|shard| shard.moments.as_ref());
        let has_partner = moments().filter(|moments| !moments.in_8_bits()).count() % 2 == 1;
        let has_codes = moments().any(Moments::in_8_bits);
        let nothing = |what| device.tensor(format!("{network}/moments/partner/{what}"), &[0], DType::Real);
        let partner = || Ok::<_, Error>([nothing("gradient")?, nothing("weight")?, nothing("m")?, nothing("v")?]);
        Ok(Self {
            shards,
            partner: has_partner.then(partner).transpose()?,
            maps: has_codes.then(|| code_maps(device, network)).transpose()?,
            partials: device.tensor(format!("{network}/gradient_norm"), &[blocks], DType::Real)?,
            totals,
            options: options.clone(),
        })
    }

    /// Adds a micro-batch's gradient to those before it; it becomes zero. Each gradient is whole before it is added: however a
    /// step's micro-batches are shared out, the sum is the same to the bit.
    ///
    /// # Panics
    /// Where there is no room to add up.
    pub fn add_up<'a>(&mut self, device: &Device, parameters: impl Iterator<Item = &'a mut Parameter>) {
        assert_eq!(self.totals.len(), self.shards.len(), "no room to add gradients up");
        for (shard, total) in trained(parameters).zip(&mut self.totals) {
            if let Some(gradient) = &mut shard.gradient {
                add(device, gradient, total);
            }
        }
    }

    /// Makes the sum the gradient; it is zero then, for the next step.
    pub fn take_total<'a>(&mut self, device: &Device, parameters: impl Iterator<Item = &'a mut Parameter>) {
        for (shard, total) in trained(parameters).zip(&mut self.totals) {
            if let Some(gradient) = &mut shard.gradient {
                add(device, total, gradient);
            }
        }
    }

    /// Adds up the squares of the group's gradient: see [`ParameterGroup::squares`].
    pub fn sum_squares<'a>(&mut self, device: &Device, parameters: impl Iterator<Item = &'a mut Parameter>) {
        let gradients: Vec<&Tensor> = trained(parameters).filter_map(|shard| shard.gradient.as_ref()).collect();
        SumSquares::run(device, &gradients, &mut self.partials);
    }

    /// The sums of squares, block by block, to be read: a tensor, and how much of it. The root of their sum is the norm of
    /// the group's gradient.
    pub fn squares(&self) -> (&Tensor, usize) {
        (&self.partials, self.partials.len())
    }

    /// Steps the weights against their gradients, which become zero.
    pub fn step<'a>(&mut self, device: &Device, parameters: impl Iterator<Item = &'a mut Parameter>, update: Update) {
        let OptimizerOptions { optimizer, max_grad_norm, .. } = self.options;
        // As torch.nn.utils.clip_grad_norm_ has it.
        let clip = if max_grad_norm > 0.0 { (max_grad_norm / (update.gradient_norm + 1e-6)).min(1.0) } else { 1.0 };
        let mut shards: Vec<&mut Shard> = trained(parameters).collect();
        match optimizer {
            OptimizerType::Adamw | OptimizerType::Adamw8bit => {
                let step = AdamStep::new(&self.options, update.step, update.learning_rate, clip);
                self.step_adamw(device, &mut shards, &step);
            }
            OptimizerType::Sgd => {
                for (shard, state) in shards.iter_mut().zip(&mut self.shards) {
                    let (stored, Some(gradient)) = shard.parts_mut() else { continue };
                    let (count, weight) = (gradient.len() as u32, state.master.as_mut().unwrap_or(stored));
                    device.run(Sgd { gradient, weight, count, step_size: (update.learning_rate * clip) as f32 });
                }
            }
        }
        for (shard, state) in shards.into_iter().zip(&self.shards) {
            if let Some(master) = &state.master {
                let count = master.len() as u32;
                device.run(RoundBf16 { x: master, y: shard.parts_mut().0, count });
            }
        }
    }

    fn step_adamw(&mut self, device: &Device, shards: &mut [&mut Shard], step: &AdamStep) {
        let mut in_f32 = Vec::new();
        for (shard, state) in shards.iter_mut().zip(&mut self.shards) {
            let ((stored, Some(gradient)), Some(moments)) = (shard.parts_mut(), &mut state.moments) else { continue };
            let weight = state.master.as_mut().unwrap_or(stored);
            let stepped = Stepped { gradient, weight, m: &mut moments.m, v: &mut moments.v };
            match (&mut moments.absmax, &self.maps) {
                (Some(absmax), Some(maps)) => step.run_in_8_bits(device, maps, stepped, absmax),
                _ => in_f32.push(stepped),
            }
        }
        in_f32.extend(self.partner.as_mut().map(|[gradient, weight, m, v]| Stepped { gradient, weight, m, v }));
        in_f32.as_chunks_mut().0.iter_mut().for_each(|pair| step.run(device, pair));
    }

    /// Everything that is not in the network itself, by name.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = (String, &mut Tensor)> {
        self.shards.iter_mut().flat_map(|state| {
            let name = &state.name;
            let moments = state.moments.iter_mut().flat_map(Moments::tensors_mut);
            let moments = moments.map(move |(kind, tensor)| (format!("{kind}/{name}"), tensor));
            moments.chain(state.master.iter_mut().map(move |master| (format!("master/{name}"), master)))
        })
    }
}

/// `total += gradient`, `gradient = 0`: a step of SGD, uphill.
fn add(device: &Device, gradient: &mut Tensor, total: &mut Tensor) {
    let count = gradient.len() as u32;
    device.run(Sgd { gradient, weight: total, count, step_size: -1.0 });
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

    /// As in bitsandbytes, weights of fewer than 4096 values have whole moments.
    #[test]
    fn large_weights_have_their_moments_in_8_bits() {
        let device = Device::cpu(Precision::F32);
        let storage = Storage::trained(DType::Real);
        let parameter = |name: &str, rows| Parameter::new(&device, "policy", name, &[rows, 64], storage).unwrap();
        let mut parameters = [parameter("large", 64), parameter("small", 60)];
        let options = OptimizerOptions { optimizer: OptimizerType::Adamw8bit, ..TrainConfig::default().optimizer };
        let mut group = ParameterGroup::new(&device, "policy", parameters.iter_mut(), &options, false).unwrap();
        let sizes: Vec<_> = group.tensors_mut().map(|(name, tensor)| (name, tensor.stored_bytes())).collect();
        let of_large = [("m/large", 4096), ("v/large", 4096), ("m_absmax/large", 64), ("v_absmax/large", 64)];
        let expected = of_large.into_iter().chain([("m/small", 15360), ("v/small", 15360)]);
        assert_eq!(sizes, expected.map(|(name, bytes)| (name.to_owned(), bytes)).collect::<Vec<_>>());

        for parameter in &mut parameters {
            let gradient = parameter.shards_mut()[0].gradient.as_mut().unwrap();
            gradient.write(0, vec![1.0; gradient.len()].into_iter()).unwrap();
        }
        group.step(&device, parameters.iter_mut(), Update { step: 1, learning_rate: 0.5, gradient_norm: 1.0 });
        for parameter in &parameters {
            let weights = parameter.shards()[0].weight.read(parameter.len()).unwrap();
            // Less 1, an f32 of beta2 is off by 1e-5 of what is left.
            assert!(weights.iter().all(|weight| (weight + 0.5).abs() < 1e-5), "{}", parameter.name());
        }
    }

    #[test]
    fn only_what_is_trained_has_a_state_and_is_stepped() {
        let device = Device::cpu(Precision::F32);
        let parameter = |name: &str, trainable| {
            let storage = Storage { trainable, ..Storage::frozen(DType::Bf16) };
            let mut parameter = Parameter::new(&device, "policy", name, &[4, 4], storage).unwrap();
            parameter.shards_mut()[0].parts_mut().0.write(0, [1.0; 16].into_iter()).unwrap();
            parameter
        };
        let mut parameters = [parameter("frozen", false), parameter("trained", true), parameter("frozen too", false)];
        let options = TrainConfig::default().optimizer;
        let mut group = ParameterGroup::new(&device, "policy", parameters.iter_mut(), &options, false).unwrap();
        let names: Vec<_> = group.tensors_mut().map(|(name, _)| name).collect();
        assert_eq!(names, ["m/trained", "v/trained", "master/trained"]);

        for gradient in parameters.iter_mut().flat_map(|parameter| &mut parameter.shards_mut()[0].gradient) {
            gradient.write(0, [1.0; 16].into_iter()).unwrap();
        }
        group.sum_squares(&device, parameters.iter_mut());
        let (squares, count) = group.squares();
        assert_eq!(squares.read(count).unwrap().iter().sum::<f64>(), 16.0);
        group.step(&device, parameters.iter_mut(), Update { step: 1, learning_rate: 0.5, gradient_norm: 4.0 });
        // The first step of AdamW is the learning rate against the gradient's sign.
        let first = |parameter: &Parameter| parameter.vector().read(1).unwrap()[0];
        assert_eq!(parameters.each_ref().map(first), [1.0, 0.5, 1.0]);
        let gradient = parameters[1].vector_gradient().unwrap();
        assert_eq!(gradient.read(16).unwrap(), [0.0; 16]);
    }
}
