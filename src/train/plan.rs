//! What a run will take, before it takes it.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use serde::Serialize;

use super::inputs::Inputs;
use super::rows::Rows;
use super::session::{EvalRoom, Session, Sources};
use super::shared_sum::{SharedPlan, read_ahead};
use crate::device::{Allocation, Device};
use crate::format::{format_bytes, grouped};

/// The memory and the length of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The device's name.
    pub device: String,
    /// Weights that are trained, of all networks.
    pub trainable_parameters: usize,
    /// What is taken for granted where no data is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assumed: Option<String>,
    /// Rows that are trained on, responses or pairs, where they are known; of an online method those that it samples.
    pub rows: Option<usize>,
    /// Responses that lose their end to `--max-length`.
    pub cut_responses: usize,
    /// Rows of the data that are left out: their prompt leaves no room, `--truncated drop`, or the method has no use for
    /// them (wrong responses for rs, for dpo those that no pair has).
    pub dropped_rows: usize,
    /// Rounds of sampling and training, of an online method, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<usize>,
    /// Optimizer steps, where they are known.
    pub steps: Option<usize>,
    /// Tokens of the largest micro-batch.
    pub micro_batch_tokens: usize,
    /// What the ranks send each other, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranks: Option<SharedPlan>,
    /// The most bytes that are allocated on the device at once.
    pub peak_bytes: u64,
    /// The device's memory, where it is known.
    pub device_bytes: Option<u64>,
    /// The largest buffer of any phase: what one binding of a kernel must hold.
    pub largest_binding: Option<Allocation>,
    /// The most that the device binds, where there is a bound.
    pub binding_limit: Option<u64>,
    /// Every buffer of the phase that takes most: training, or the reference's log-probs before it.
    pub buffers: Vec<Allocation>,
}

impl Plan {
    /// What one of so many ranks takes: the same code that allocates it, on a device that only counts.
    ///
    /// # Errors
    /// Where a single tensor is larger than the device can hold.
    pub fn of(inputs: &Inputs, rows: &dyn Rows, device: &Device, ranks: usize) -> Result<Self> {
        let Inputs { config, objective, models, tokenizer, .. } = inputs;
        let planned = Device::plan(device);
        let of_policy = models.policy.planned_weights()?;
        let of_value = models.value.planned_weights()?;
        let of_reference = models.reference.planned_weights()?;
        let mut phases = Vec::new();
        if let Some(_scorer) = rows.scorer_before(&planned, models.reference_source(of_reference.as_ref(), None))? {
            phases.push(planned.allocations());
        }
        let room = inputs.train_room(rows, ranks);
        let sources = Sources {
            policy: models.policy.source(of_policy.as_ref(), models.adapters.policy(), None),
            value: models.value.source(of_value.as_ref(), models.adapters.value(), None),
        };
        let eval = inputs.generation(rows).map(|sizes| EvalRoom { sizes, stop_ids: tokenizer.stop_ids() });
        let mut session = Session::new(&planned, sources, &**objective, config, room, eval)?;
        let base = models.shares_base(objective.reference()).then(|| session.policy.network.base());
        let _scorer = rows.scorer_beside(&planned, models.reference_source(of_reference.as_ref(), base.as_ref()))?;
        let gradients = session.gradient_elements();
        let _outgoing = (ranks > 1).then(|| read_ahead(&planned, gradients));
        phases.push(planned.allocations());

        let limits = device.limits();
        let bytes = |phase: &Vec<Allocation>| phase.iter().map(|buffer| buffer.bytes).sum::<u64>();
        let outlook = rows.outlook();
        Ok(Self {
            device: device.description(),
            trainable_parameters: session.trainable_parameters(),
            assumed: outlook.assumed,
            rows: outlook.rows,
            cut_responses: outlook.cut_responses,
            dropped_rows: outlook.dropped_rows,
            rounds: outlook.rounds,
            steps: config.steps.max_steps.or_else(|| config.data.is_some().then(|| rows.total_steps())),
            micro_batch_tokens: room.capacity.tokens,
            ranks: (ranks > 1).then(|| SharedPlan::of(device, ranks, gradients)),
            peak_bytes: planned.peak_bytes(),
            device_bytes: limits.memory_bytes,
            largest_binding: phases.iter().flatten().filter(is_bound).max_by_key(|buffer| buffer.bytes).cloned(),
            binding_limit: (limits.tensor_bytes < u64::MAX).then_some(limits.tensor_bytes),
            buffers: phases.into_iter().max_by_key(bytes).unwrap_or_default(),
        })
    }

    /// Whether the device is known to be too small.
    pub fn exceeds_device(&self) -> bool {
        self.device_bytes.is_some_and(|bytes| self.peak_bytes > bytes)
    }

    /// Bytes by what they are for: `policy weights`, `scratch`, ...
    pub fn groups(&self) -> Vec<(String, u64)> {
        let mut groups: Vec<(String, u64)> = Vec::new();
        let mut places = BTreeMap::new();
        for buffer in &self.buffers {
            let mut parts = buffer.name.split('/');
            let first = parts.next().unwrap_or_default();
            let group = match parts.next() {
                Some(second) if !SHARED.contains(&first) => format!("{first} {second}"),
                _ => first.to_owned(),
            };
            let place = *places.entry(group.clone()).or_insert(groups.len());
            if place == groups.len() {
                groups.push((group, 0));
            }
            groups[place].1 += buffer.bytes;
        }
        groups
    }
}

/// Whether kernels see a buffer, not copies alone.
fn is_bound(buffer: &&Allocation) -> bool {
    !buffer.name.starts_with("transfer/")
}

/// First parts of names that belong to no network.
const SHARED: [&str; 3] = ["scratch", "batch", "transfer"];

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "device      {}", self.device)?;
        writeln!(f, "trainable   {} parameters", grouped(self.trainable_parameters))?;
        if let Some(assumed) = &self.assumed {
            writeln!(f, "assumed     {assumed}")?;
        }
        if let Some(rows) = self.rows {
            write!(f, "rows        {}", grouped(rows))?;
        }
        if self.cut_responses > 0 {
            write!(f, ", {} of them cut to --max-length", grouped(self.cut_responses))?;
        }
        if self.dropped_rows > 0 {
            write!(f, "; {} of the data left out", grouped(self.dropped_rows))?;
        }
        if self.rows.is_some() {
            writeln!(f)?;
        }
        if let Some(rounds) = self.rounds {
            writeln!(f, "rounds      {}", grouped(rounds))?;
        }
        if let Some(steps) = self.steps {
            writeln!(f, "steps       {}", grouped(steps))?;
        }
        writeln!(f, "micro-batch {} tokens at most", grouped(self.micro_batch_tokens))?;
        if let Some(SharedPlan { ranks, sent_bytes, host_bytes }) = &self.ranks {
            let (sent, host) = (format_bytes(*sent_bytes), format_bytes(*host_bytes));
            writeln!(
                f,
                "ranks       {ranks}; with a micro-batch each sends {sent} a step; {host} of the host's memory for that"
            )?;
        }
        if let Some(Allocation { name, bytes }) = &self.largest_binding {
            write!(f, "binding     {} at most", format_bytes(*bytes))?;
            if let Some(limit) = self.binding_limit {
                write!(f, " of {}", format_bytes(limit))?;
            }
            writeln!(f, ": {name}")?;
        }
        write!(f, "memory      {} at most", format_bytes(self.peak_bytes))?;
        if let Some(bytes) = self.device_bytes {
            write!(f, " of {}", format_bytes(bytes))?;
        }
        for (group, bytes) in self.groups() {
            write!(f, "\n  {group:<22}{:>12}", format_bytes(bytes))?;
        }
        Ok(())
    }
}
