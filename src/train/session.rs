//! The memory of a training run: networks, activations, gradients, optimizer state. Everything is allocated here, once;
//! built on a plan device it is the memory plan.

use anyhow::Result;

use super::config::TrainConfig;
use super::optimizer::ParameterGroup;
use crate::data::{Capacity, DeviceBatch};
use crate::device::{DType, Device, Tensor};
use crate::model::{
    Build, Checkpoint, ModelConfig, Policy, PolicyActivations, Scratch, Storage, Value, ValueActivations,
};
use crate::objective::Objective;

/// Where the weights of the two networks come from.
pub struct Sources<'a> {
    pub policy: Source<'a>,
    pub value: Source<'a>,
}

/// A model's description and weights; a plan needs no weights.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub config: &'a ModelConfig,
    pub checkpoint: Option<&'a Checkpoint>,
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
    /// `[batch size, Objective::statistics]`
    pub statistics: Tensor,
    /// `[batch size]`: the sum of each sequence's entropies.
    pub entropies: Tensor,
    /// The number of the last step that ran to its end.
    pub marker: Tensor,
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
    ) -> Result<Self> {
        let Capacity { tokens, positions, sequences, longest } = capacity;
        let storage = Storage { dtype: config.dtype.storage(), trainable: true };
        let real = |name: &str, shape: &[usize]| device.tensor(name, shape, DType::Real);

        let build = Build::new(device, sources.policy.config, sources.policy.checkpoint, "policy", storage);
        let mut network = Policy::load(&build, longest)?;
        let group = ParameterGroup::new(device, "policy", network.parameters_mut(), config)?;
        let activations = PolicyActivations::new(&build, tokens, positions, true)?;
        let scratch = Scratch::new(&build, tokens, true)?;
        let policy = PolicySide { network, activations, group };

        let value = if objective.uses_value() {
            let build = Build::new(device, sources.value.config, sources.value.checkpoint, "value", storage);
            let mut network = Value::load(&build, longest)?;
            let group = ParameterGroup::new(device, "value", network.parameters_mut(), config)?;
            let activations = ValueActivations::new(&build, tokens, positions, sequences, true)?;
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
            statistics: real("batch/statistics", &[config.batch_size, objective.statistics()])?,
            entropies: real("batch/entropies", &[config.batch_size])?,
            marker: device.tensor("batch/marker", &[1], DType::U32)?,
        })
    }
}
