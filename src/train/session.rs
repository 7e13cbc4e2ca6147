//! The memory of a training run: networks, activations, gradients, optimizer state. Everything is allocated here, once;
//! built on a plan device it is the memory plan.

use anyhow::{Context, Result, ensure};

use super::config::TrainConfig;
use super::optimizer::{ParameterGroup, Update};
use super::source::Source;
use crate::data::{Capacity, DeviceBatch};
use crate::device::{DType, Device, Tensor};
use crate::kernels::MarkStep;
use crate::model::{Base, Build, Keep, Policy, PolicyActivations, Scratch, Storage, Value, ValueActivations};
use crate::objective::{Objective, Seam, StepTotals, ValueSeam};
use crate::sample::{Generator, Sizes};

/// Where the weights of the two networks come from.
pub struct Sources<'a> {
    pub policy: Source<'a>,
    /// With adapters, they are on the policy's base.
    pub value: Source<'a>,
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
    /// What the last dispatch that ran has written: see `Session::confirm`.
    pub marker: Tensor,
    /// How often work was confirmed.
    confirmed: u32,
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
        let Capacity { tokens, positions, longest, .. } = capacity;
        let batch_sequences = config.steps.batch_size * objective.trains_on().sequences_per_row();
        let storage = Storage { dtype: config.model.dtype.storage(), trainable: true };
        let keep = if config.steps.gradient_checkpointing { Keep::LayerInputs } else { Keep::Everything };
        let real = |name: &str, shape: &[usize]| device.tensor(name, shape, DType::Real);

        let build = sources.policy.build(device, "policy", storage);
        let written = eval.map_or(0, |room| room.sizes.tokens);
        let mut network = Policy::load(&build, longest.max(written))?;
        let base = if sources.value.adapter.is_some() { network.base() } else { Base::default() };
        let on_base = sources.value.adapter.is_some().then_some(&base);
        let value_build = sources.value.on(on_base, &sources.policy).build(device, "value", storage);
        // Both networks' passes share it: room for the higher rank.
        let scratch_build = if value_build.low_rank() > build.low_rank() { &value_build } else { &build };
        let generator = eval.map(|room| Generator::new(&build, room.stop_ids.to_vec(), room.sizes)).transpose()?;
        let group = ParameterGroup::new(device, "policy", network.parameters_mut(), &config.optimizer)?;
        let activations = PolicyActivations::new(&build, tokens, positions, keep)?;
        let scratch = Scratch::new(scratch_build, tokens, keep)?;
        let policy = PolicySide { network, activations, group };
        let value = match objective.value_network() {
            Some(_) => Some(ValueSide::new(&value_build, config, capacity, keep)?),
            None => None,
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
            confirmed: 0,
            generator,
        })
    }

    /// The networks' forward passes over the batch.
    pub fn forward(&mut self) {
        let Self { policy, value, scratch, batch, .. } = self;
        policy.network.forward(batch, &mut policy.activations, scratch);
        if let Some(value) = value {
            value.network.forward(batch, &mut value.activations, scratch);
        }
    }

    /// What a method sees of the batch after the forward passes, and where it writes.
    pub fn seam(&mut self, first_sequence: usize, totals: StepTotals) -> Seam<'_> {
        let Self { device, policy, value, batch, rollout, dlogp, statistics, .. } = self;
        let value = value.as_mut().map(|value| ValueSeam {
            value: &value.activations.value,
            bootstrap: &value.activations.bootstrap,
            dvalue: &mut value.dvalue,
        });
        let logp = &policy.activations.head.logp;
        Seam { device, batch, rollout, logp, value, dlogp, statistics, first_sequence, totals }
    }

    /// The networks' backward passes from what the method wrote; gradients are added to.
    pub fn backward(&mut self) {
        let Self { policy, value, scratch, batch, dlogp, .. } = self;
        policy.network.backward(batch, &mut policy.activations, scratch, dlogp);
        if let Some(value) = value {
            value.network.backward(batch, &mut value.activations, scratch, &value.dvalue);
        }
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
    pub(super) fn gradient_norms(&mut self) -> Result<GradientNorms> {
        let Self { device, policy, value, .. } = self;
        let norm = policy.group.gradient_norm(device, policy.network.parameters_mut())?;
        let value_norm = match value {
            Some(value) => Some(value.group.gradient_norm(device, value.network.parameters_mut())?),
            None => None,
        };
        Ok(GradientNorms { policy: norm, value: value_norm })
    }

    /// Steps the policy, and the value network where it has a step too.
    pub(super) fn update(&mut self, policy_update: Update, value_update: Option<Update>) {
        let Self { device, policy, value, .. } = self;
        policy.group.step(device, policy.network.parameters_mut(), policy_update);
        if let (Some(value), Some(update)) = (value, value_update) {
            value.group.step(device, value.network.parameters_mut(), update);
        }
    }

    /// Proves that all that was run before did run: a device may fail in silence.
    ///
    /// # Errors
    /// Where it did not.
    pub(super) fn confirm(&mut self) -> Result<()> {
        self.confirmed += 1;
        let number = self.confirmed;
        self.device.run(MarkStep { marker: &mut self.marker, step: number });
        let read = self.marker.read(1)?[0];
        ensure!(
            read == f64::from(number),
            "the device lost work in silence (mark {read} in place of {number}); restart with --resume"
        );
        self.device.synchronize().context("the device failed")
    }
}

/// The norms of the networks' gradients, before clipping.
pub(super) struct GradientNorms {
    pub policy: f64,
    pub value: Option<f64>,
}

impl ValueSide {
    fn new(build: &Build, config: &TrainConfig, capacity: Capacity, keep: Keep) -> Result<Self> {
        let Capacity { tokens, positions, sequences, longest } = capacity;
        let mut network = Value::load(build, longest)?;
        let group = ParameterGroup::new(build.device, "value", network.parameters_mut(), &config.optimizer)?;
        let activations = ValueActivations::new(build, tokens, positions, sequences, keep)?;
        let dvalue = build.device.tensor("batch/dvalue", &[positions], DType::Real)?;
        Ok(Self { network, activations, group, dvalue })
    }
}
