//! What a run will take, before it takes it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::device::{Allocation, Device, Limits};

/// The memory and the length of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The device's name.
    pub device: String,
    /// Weights that are trained, of all networks.
    pub trainable_parameters: usize,
    /// Rows that are trained on; of an online method those that it samples.
    pub rows: usize,
    /// Responses that lose their end to `--max-length`.
    pub cut_responses: usize,
    /// Rows that are left out, because their prompt leaves no room or because of `--truncated drop`.
    pub dropped_rows: usize,
    /// Rounds of sampling and training, of an online method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<usize>,
    /// Optimizer steps.
    pub steps: usize,
    /// Tokens of the largest micro-batch.
    pub micro_batch_tokens: usize,
    /// The most bytes that are allocated on the device at once.
    pub peak_bytes: u64,
    /// The device's memory, where it is known.
    pub device_bytes: Option<u64>,
    /// Every buffer of the training phase.
    pub buffers: Vec<Allocation>,
}

impl Plan {
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

    /// Takes over what a plan device holds.
    pub(super) fn measure(&mut self, planned: &Device, limits: Limits) {
        self.peak_bytes = planned.peak_bytes();
        self.device_bytes = limits.memory_bytes;
        self.buffers = planned.allocations();
    }
}

/// First parts of names that belong to no network.
const SHARED: [&str; 2] = ["scratch", "batch"];

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "device      {}", self.device)?;
        writeln!(f, "trainable   {} parameters", grouped(self.trainable_parameters))?;
        write!(f, "rows        {}", grouped(self.rows))?;
        if self.cut_responses > 0 {
            write!(f, ", {} of them cut to --max-length", grouped(self.cut_responses))?;
        }
        if self.dropped_rows > 0 {
            write!(f, "; {} more left out", grouped(self.dropped_rows))?;
        }
        if let Some(rounds) = self.rounds {
            write!(f, "\nrounds      {}", grouped(rounds))?;
        }
        writeln!(f, "\nsteps       {}", grouped(self.steps))?;
        writeln!(f, "micro-batch {} tokens at most", grouped(self.micro_batch_tokens))?;
        write!(f, "memory      {} at most", crate::format_bytes(self.peak_bytes))?;
        if let Some(bytes) = self.device_bytes {
            write!(f, " of {}", crate::format_bytes(bytes))?;
        }
        for (group, bytes) in self.groups() {
            write!(f, "\n  {group:<22}{:>12}", crate::format_bytes(bytes))?;
        }
        Ok(())
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 12, 123, 1234, 1_234_567].map(grouped), ["0", "12", "123", "1,234", "1,234,567"]);
    }
}
