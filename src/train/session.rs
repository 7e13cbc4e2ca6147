//! The memory of a training run: networks, activations, gradients, optimizer state. Everything is allocated here, once;
//! built on a plan device it is the memory plan.

use anyhow::{Context, Result, ensure};

use super::config::TrainConfig;
use super::optimizer::ParameterGroup;
use crate::data::{Capacity, DeviceBatch};
use crate::device::{DType, Device, Tensor};
use crate::kernels::MarkStep;
use crate::model::{
    Adapter, Base, Build, Checkpoint, Keep, ModelConfig, Policy, PolicyActivations, Scratch, Storage, Value,
    ValueActivations,
};
use crate::objective::Objective;
use crate::sample::{Generator, Sizes};

/// Where the weights of the two networks come from.
pub struct Sources<'a> {
    pub policy: Source<'a>,
    /// With adapters, they are on the policy's base.
    pub value: Source<'a>,
}

/// A model's description and weights; a plan needs no weights.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub config: &'a ModelConfig,
    pub checkpoint: Option<&'a Checkpoint>,
    /// Over the model, which is frozen then.
    pub adapter: Option<&'a Adapter>,
    /// Another network's frozen weights, in place of a checkpoint's.
    pub base: Option<&'a Base>,
}

/// The policy in training.
pub struct PolicySide {
    pub network: Policy,
    pub activations: PolicyActivations,
    pub group: ParameterGroup,
}

/// The value network in training.
pub struct ValueSide {
    pub network: Value,
    pub activations: ValueActivations,
    pub group: ParameterGroup,
    /// `[positions]`
    pub dvalue: Tensor,
}

/// Everything on the device.
pub struct Session {
    pub device: Device,
    pub policy: PolicySide,
    pub value: Option<ValueSide>,
    pub scratch: Scratch,
    pub batch: DeviceBatch,
    /// `[positions, 4]`: see [`Seam`](crate::objective::Seam).
    pub rollout: Tensor,
    /// `[positions]`
    pub dlogp: Tensor,
    /// `[sequences of a step, Objective::statistics]`
    pub statistics: Tensor,
    /// `[sequences of a step]`: the sum of each sequence's entropies.
    pub entropies: Tensor,
    /// The number of the last step that ran to its end.
    pub marker: Tensor,
    /// What evaluations and online rounds write with.
    pub generator: Option<Generator>,
}

/// What a run's evaluations and online rounds have room for, and the tokens that end a response.
#[derive(Clone, Copy)]
pub struct EvalRoom<'a> {
    pub sizes: Sizes,
    pub stop_ids: &'a [u32],
}

impl Session {
    /// Allocates a run whose micro-batches fit `capacity`, and reads the weights.
    ///
    /// # Errors
    /// Where a tensor is missing, of another shape, or has no room.
    pub fn new(
        device: &Device,
        sources: Sources,
        objective: &dyn Objective,
        config: &TrainConfig,
        capacity: Capacity,
        eval: Option<EvalRoom>,
    ) -> Result<Self> {
        let Capacity { tokens, positions, sequences, longest } = capacity;
        let batch_sequences = config.batch_size * objective.trains_on().sequences_per_row();
        let storage = Storage { dtype: config.dtype.storage(), trainable: true };
        let keep = if config.gradient_checkpointing { Keep::LayerInputs } else { Keep::Everything };
        let real = |name: &str, shape: &[usize]| device.tensor(name, shape, DType::Real);

        let Sources { policy: source, value: value_source } = sources;
        let build =
            Build::new(device, source.config, source.checkpoint, "policy", storage).with_adapter(source.adapter);
        let written = eval.map_or(0, |room| room.sizes.tokens);
        let mut network = Policy::load(&build, longest.max(written))?;
        let base = if value_source.adapter.is_some() { network.base() } else { Base::default() };
        let value_build = match value_source.adapter {
            Some(_) => Build::new(device, source.config, None, "value", storage).over(&base),
            None => Build::new(device, value_source.config, value_source.checkpoint, "value", storage),
        };
        let value_build = value_build.with_adapter(value_source.adapter);
        // Both networks' passes share it: room for the higher rank.
        let scratch_build = if value_build.low_rank() > build.low_rank() { &value_build } else { &build };
        let generator = eval.map(|room| Generator::new(&build, room.stop_ids.to_vec(), room.sizes)).transpose()?;
        let group = ParameterGroup::new(device, "policy", network.parameters_mut(), config)?;
        let activations = PolicyActivations::new(&build, tokens, positions, keep)?;
        let scratch = Scratch::new(scratch_build, tokens, keep)?;
        let policy = PolicySide { network, activations, group };

        let value = if objective.uses_value() {
            let mut network = Value::load(&value_build, longest)?;
            let group = ParameterGroup::new(device, "value", network.parameters_mut(), config)?;
            let activations = ValueActivations::new(&value_build, tokens, positions, sequences, keep)?;
            Some(ValueSide { network, activations, group, dvalue: real("batch/dvalue", &[positions])? })
        } else {
            None
        };
        Ok(Self {
            device: device.clone(),
            policy,
            value,
            scratch,
            batch: DeviceBatch::new(device, capacity)?,
            rollout: real("batch/rollout", &[positions, 4])?,
            dlogp: real("batch/dlogp", &[positions])?,
            statistics: real("batch/statistics", &[batch_sequences, objective.statistics()])?,
            entropies: real("batch/entropies", &[batch_sequences])?,
            marker: device.tensor("batch/marker", &[1], DType::U32)?,
            generator,
        })
    }

    /// Weights that have gradients.
    pub(super) fn trainable_parameters(&mut self) -> usize {
        let value = self.value.iter_mut().flat_map(|value| value.network.parameters_mut());
        let parameters = self.policy.network.parameters_mut().chain(value);
        parameters.filter(|parameter| parameter.is_trained()).map(|parameter| parameter.len()).sum()
    }

    pub(super) fn clear_gradients(&mut self) {
        self.policy.network.parameters_mut().for_each(|parameter| parameter.clear_gradient());
        if let Some(value) = &mut self.value {
            value.network.parameters_mut().for_each(|parameter| parameter.clear_gradient());
        }
    }

    /// The norms of the policy's and the value network's gradients.
    pub(super) fn gradient_norms(&mut self) -> Result<(f64, Option<f64>)> {
        let Self { device, policy, value, .. } = self;
        let norm = policy.group.gradient_norm(device, policy.network.parameters_mut())?;
        let value_norm = match value {
            Some(value) => Some(value.group.gradient_norm(device, value.network.parameters_mut())?),
            None => None,
        };
        Ok((norm, value_norm))
    }

    /// Steps the two groups, each with its (learning rate, gradient norm).
    pub(super) fn update(&mut self, step: usize, policy_rate: (f64, f64), value_rate: Option<(f64, f64)>) {
        let Self { device, policy, value, .. } = self;
        let (learning_rate, norm) = policy_rate;
        policy.group.step(device, policy.network.parameters_mut(), (step, learning_rate, norm));
        if let (Some(value), Some((learning_rate, norm))) = (value, value_rate) {
            value.group.step(device, value.network.parameters_mut(), (step, learning_rate, norm));
        }
    }

    /// Proves that all that was run before did run: a device may fail in silence.
    pub(super) fn confirm(&mut self, number: usize) -> Result<()> {
        let number = number as u32;
        self.device.run(MarkStep { marker: &mut self.marker, step: number });
        let read = self.marker.read(1)?[0];
        ensure!(
            read == f64::from(number),
            "the device lost work in silence (mark {read} in place of {number}); restart with --resume"
        );
        self.device.synchronize().context("the device failed")
    }
}
