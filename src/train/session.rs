//! The memory of a training run: networks, activations, gradients, optimizer state. Everything is allocated here, once;
//! built on a plan device it is the memory plan.

use anyhow::{Result, ensure};

use super::config::TrainConfig;
use super::optimizer::{ParameterGroup, Update};
use super::source::Source;
use crate::data::{Capacity, DeviceBatch};
use crate::device::{DType, Device, Tensor};
use crate::kernels::MarkStep;
use crate::model::{
    Base, Build, Finished, Keep, Parameter, Policy, PolicyActivations, Scratch, Shard, Storage, Value, ValueActivations,
};
use crate::objective::{Objective, Seam, StepTotals, ValueSeam};
use crate::ranks::Ranks;
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
    /// How many marks were left.
    marks: u32,
    /// What evaluations and online rounds write with.
    pub generator: Option<Generator>,
}

/// What a run's steps have room for.
#[derive(Clone, Copy)]
pub struct TrainRoom {
    /// Every micro-batch fits it.
    pub capacity: Capacity,
    /// Whether the device adds up the gradients of several micro-batches.
    pub adds_up: bool,
}

/// What a run's evaluations and online rounds have room for, and the tokens that end a response.
#[derive(Clone, Copy)]
pub struct EvalRoom<'a> {
    pub sizes: Sizes,
    pub stop_ids: &'a [u32],
}

impl Session {
    /// Allocates a run whose steps fit `room`, and reads the weights.
    ///
    /// # Errors
    /// Where a tensor is missing, of another shape, or has no room.
    pub fn new(
        device: &Device,
        sources: Sources,
        objective: &dyn Objective,
        config: &TrainConfig,
        room: TrainRoom,
        eval: Option<EvalRoom>,
    ) -> Result<Self> {
        let capacity = room.capacity;
        let Capacity { tokens, positions, longest, .. } = capacity;
        let batch_sequences = config.steps.batch_size * objective.trains_on().sequences_per_row();
        let storage = Storage { trainable: true, ..config.model.weights.storage() };
        let keep = config.steps.keep();
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
        let group = ParameterGroup::new(device, "policy", network.parameters_mut(), &config.optimizer, room.adds_up)?;
        let activations = PolicyActivations::new(&build, tokens, positions, keep)?;
        let scratch = Scratch::new(scratch_build, tokens, keep)?;
        let policy = PolicySide { network, activations, group };
        let value = match objective.value_network() {
            Some(_) => Some(ValueSide::new(&value_build, config, room, keep)?),
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
            marks: 0,
            generator,
        })
    }

    /// The networks' forward passes over the batch, which a GPU begins with at once.
    pub fn forward(&mut self) {
        let Self { device, policy, value, scratch, batch, .. } = self;
        policy.network.forward(batch, &mut policy.activations, scratch);
        if let Some(value) = value {
            value.network.forward(batch, &mut value.activations, scratch);
        }
        device.begin();
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

    /// The networks' backward passes from what the method wrote; gradients are added to. `finished` hears of each weight, in the
    /// order of `gradients_mut`.
    pub fn backward(&mut self, finished: Finished) {
        let Self { policy, value, scratch, batch, dlogp, .. } = self;
        policy.network.backward(batch, &mut policy.activations, scratch, dlogp, finished);
        if let Some(value) = value {
            value.network.backward(batch, &mut value.activations, scratch, &value.dvalue, finished);
        }
    }

    /// Adds a micro-batch's gradients to those before it.
    pub(super) fn add_up(&mut self) {
        let Self { device, policy, value, .. } = self;
        policy.group.add_up(device, policy.network.parameters_mut());
        if let Some(value) = value {
            value.group.add_up(device, value.network.parameters_mut());
        }
    }

    /// Makes the sums of the micro-batches' gradients the gradients of the step.
    pub(super) fn take_totals(&mut self) {
        let Self { device, policy, value, .. } = self;
        policy.group.take_total(device, policy.network.parameters_mut());
        if let Some(value) = value {
            value.group.take_total(device, value.network.parameters_mut());
        }
    }

    /// The gradients of all trained weights, in the order in which backward passes finish them.
    pub(super) fn gradients_mut(&mut self) -> Vec<&mut Tensor> {
        self.trained_shards().filter_map(|shard| shard.gradient.as_mut()).collect()
    }

    /// Elements of all gradients.
    pub(super) fn gradient_elements(&mut self) -> usize {
        self.gradients_mut().iter().map(|gradient| gradient.len()).sum()
    }

    fn trained_shards(&mut self) -> impl Iterator<Item = &mut Shard> {
        self.trained_parameters().flat_map(Parameter::shards_mut)
    }

    fn trained_parameters(&mut self) -> impl Iterator<Item = &mut Parameter> {
        let value = self.value.iter_mut().flat_map(|value| value.network.parameters_as_finished_mut());
        let parameters = self.policy.network.parameters_as_finished_mut().chain(value);
        parameters.filter(|parameter| parameter.is_trained())
    }

    /// Gives every rank the first one's weights, and with `optimizer` what the optimizer keeps of them.
    ///
    /// # Errors
    /// Where the device fails.
    pub(super) fn copy_first(&mut self, ranks: &Ranks, optimizer: bool) -> Result<()> {
        self.trained_shards().try_for_each(|shard| copy_first(ranks, shard.parts_mut().0))?;
        let value = self.value.iter_mut().flat_map(|value| value.group.tensors_mut());
        let mut tensors = self.policy.group.tensors_mut().chain(value).filter(|_| optimizer);
        tensors.try_for_each(|(_, tensor)| copy_first(ranks, tensor))
    }

    /// Weights that have gradients.
    pub(super) fn trainable_parameters(&mut self) -> usize {
        self.trained_parameters().map(|parameter| parameter.len()).sum()
    }

    /// What the passes of a step over so many sequences have left, read with one wait.
    ///
    /// # Errors
    /// Where the device fails, with or without saying so.
    pub(super) fn results(&mut self, sequences: usize) -> Result<StepResults> {
        let Self { device, policy, value, .. } = self;
        policy.group.sum_squares(device, policy.network.parameters_mut());
        if let Some(value) = value {
            value.group.sum_squares(device, value.network.parameters_mut());
        }
        self.mark();
        let Self { device, policy, value, statistics, entropies, marker, .. } = self;
        let squares = policy.group.squares();
        let value_squares = value.as_ref().map(|value| value.group.squares());
        let [mark, statistics, entropies, squares, of_value] = device.read([
            (marker, 1),
            (statistics, sequences * statistics.shape()[1]),
            (entropies, sequences),
            squares,
            value_squares.unwrap_or((marker, 0)),
        ])?;
        self.check_mark(&mark)?;
        let norm = |squares: &[f64]| squares.iter().sum::<f64>().sqrt();
        let norms = GradientNorms { policy: norm(&squares), value: self.value.is_some().then(|| norm(&of_value)) };
        Ok(StepResults { statistics, entropies, norms })
    }

    /// Steps the policy, and the value network where it has a step too; a GPU begins with it at once. Gradients are zero
    /// then.
    pub(super) fn update(&mut self, policy_update: Update, value_update: Option<Update>) {
        let Self { device, policy, value, .. } = self;
        policy.group.step(device, policy.network.parameters_mut(), policy_update);
        if let (Some(value), Some(update)) = (value, value_update) {
            value.group.step(device, value.network.parameters_mut(), update);
        }
        device.begin();
    }

    /// Proves that all that was run before did run: a device may fail in silence.
    ///
    /// # Errors
    /// Where it did not.
    pub(super) fn confirm(&mut self) -> Result<()> {
        self.mark();
        let mark = self.marker.read(1)?;
        self.check_mark(&mark)
    }

    /// Leaves a new mark behind all that was run before.
    fn mark(&mut self) {
        self.marks += 1;
        self.device.run(MarkStep { marker: &mut self.marker, step: self.marks });
    }

    /// Checks that the newest mark was read.
    fn check_mark(&self, read: &[f64]) -> Result<()> {
        let (read, marks) = (read[0], self.marks);
        ensure!(
            read == f64::from(marks),
            "the device lost work in silence (mark {read} in place of {marks}); restart with --resume"
        );
        Ok(())
    }
}

fn copy_first(ranks: &Ranks, tensor: &mut Tensor) -> Result<()> {
    if ranks.is_first() {
        ranks.copy_first(&mut tensor.read_bytes(tensor.len())?.into_owned());
        return Ok(());
    }
    let mut bytes = vec![0; tensor.stored_bytes()];
    ranks.copy_first(&mut bytes);
    tensor.write_part(0, &bytes)
}

/// What a step is told by.
pub(super) struct StepResults {
    /// `[sequences, Objective::statistics]`
    pub statistics: Vec<f64>,
    /// The sum of each sequence's entropies.
    pub entropies: Vec<f64>,
    pub norms: GradientNorms,
}

/// The norms of the networks' gradients, before clipping.
pub(super) struct GradientNorms {
    pub policy: f64,
    pub value: Option<f64>,
}

impl ValueSide {
    fn new(build: &Build, config: &TrainConfig, room: TrainRoom, keep: Keep) -> Result<Self> {
        let Capacity { tokens, positions, sequences, longest } = room.capacity;
        let mut network = Value::load(build, longest)?;
        let parameters = network.parameters_mut();
        let group = ParameterGroup::new(build.device, "value", parameters, &config.optimizer, room.adds_up)?;
        let activations = ValueActivations::new(build, tokens, positions, sequences, keep)?;
        let dvalue = build.device.tensor("batch/dvalue", &[positions], DType::Real)?;
        Ok(Self { network, activations, group, dvalue })
    }
}
