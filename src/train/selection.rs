//! What a run trains on: of the rows of a file, those that the method learns from, as the rows of its batches.

use anyhow::{Result, bail, ensure};

use crate::data::{Example, RowFile, by_prompt, pairs};
use crate::objective::{Objective, TrainsOn, Truncated};

/// The rows of a run's batches.
pub struct Selection {
    pub examples: Vec<Example>,
    /// Each row's examples, by number: one, or the two of a pair.
    pub rows: Vec<Vec<usize>>,
    /// Rows of the file that no batch has.
    pub left_out: usize,
    /// What the user should know of the data.
    pub warnings: Vec<String>,
}

impl Selection {
    /// Selects of a file's examples; `seed` draws pairs.
    ///
    /// # Errors
    /// Names the file, and the line and field where one lacks what the method needs, or says what nothing is left of.
    pub fn new(file: &RowFile, examples: Vec<Example>, objective: &dyn Objective, seed: u64) -> Result<Self> {
        let (trains_on, name) = (objective.trains_on(), objective.name());
        let mut selection = Self { examples, rows: Vec::new(), left_out: 0, warnings: Vec::new() };
        let lines = selection.read_rows(file, name, trains_on)?;
        if objective.truncated() == Truncated::Drop {
            let Self { examples, rows, .. } = &mut selection;
            rows.retain(|row| !row.iter().any(|&number| examples[number].truncated));
            ensure!(!rows.is_empty(), "{}: --truncated drop leaves no row", file.name());
        }
        if trains_on != TrainsOn::Responses && !file.paired {
            selection.need_rewards(file, name, trains_on)?;
        }
        match trains_on {
            TrainsOn::Responses => {}
            TrainsOn::Rewarded { .. } => selection.look_at_rewards(file, name),
            TrainsOn::Compared => selection.compare(file, objective),
            TrainsOn::RightResponses => selection.keep_right(file, name)?,
            TrainsOn::Labelled => selection.label(file, name),
            TrainsOn::Pairs { .. } if file.paired => {}
            TrainsOn::Pairs { max_per_prompt } => selection.pair(file, max_per_prompt, seed)?,
        }
        if !matches!(trains_on, TrainsOn::Rewarded { .. }) {
            selection.examples.iter_mut().for_each(|example| example.step_rewards.clear());
        }
        selection.keep_used();
        let used = if file.paired { selection.rows.len() } else { selection.examples.len() };
        selection.left_out = lines.saturating_sub(used); // none of rows that are only assumed
        Ok(selection)
    }

    /// The rows as the file has them; returns how many there were before some were left out for their length.
    fn read_rows(&mut self, file: &RowFile, name: &str, trains_on: TrainsOn) -> Result<usize> {
        if trains_on.sequences_per_row() == 1 {
            file.need_responses(name)?;
        }
        let width = if file.paired { 2 } else { 1 };
        let numbers: Vec<usize> = (0..self.examples.len()).collect();
        self.rows = numbers.chunks(width).map(<[usize]>::to_vec).collect();
        Ok(file.rows.len() / width)
    }

    fn need_rewards(&self, file: &RowFile, name: &str, trains_on: TrainsOn) -> Result<()> {
        let numbers = self.rows.iter().flatten();
        let Some(example) = numbers.map(|&number| &self.examples[number]).find(|example| example.reward.is_none())
        else {
            return Ok(());
        };
        let or = if trains_on.sequences_per_row() == 2 { ", or pairs of `chosen` and `rejected`" } else { "" };
        bail!(
            "{}:{}: field `reward`: is missing; {} needs one in every row (or `label`){or}",
            file.name(),
            example.line,
            name
        )
    }

    fn keep_right(&mut self, file: &RowFile, name: &str) -> Result<()> {
        let Self { examples, rows, .. } = self;
        rows.retain(|row| row.iter().all(|&number| examples[number].is_right()));
        ensure!(
            !rows.is_empty(),
            "{}: no row has a reward above 0.5, and {} trains on those alone; sample more responses",
            file.name(),
            name
        );
        Ok(())
    }

    fn look_at_rewards(&mut self, file: &RowFile, name: &str) {
        let examples = || self.rows.iter().flatten().map(|&number| &self.examples[number]);
        let Some(first) = examples().next().and_then(|example| example.reward) else { return };
        let is_same = |example: &Example| example.reward == Some(first) && example.step_rewards.is_empty();
        if examples().count() > 1 && examples().all(is_same) {
            self.warnings.push(format!(
                "{}: every reward is {first}: nothing tells {name} one response from another; sample more responses, or look \
                 at how they were graded",
                file.name()
            ));
        }
    }

    /// Gives every response its advantage over the others to its prompt.
    fn compare(&mut self, file: &RowFile, objective: &dyn Objective) {
        let responses: Vec<usize> = self.rows.iter().flatten().copied().collect();
        let mut is_any_better = false;
        for numbers in by_prompt(&self.examples, &responses) {
            let rewards: Vec<f64> = numbers.iter().filter_map(|&number| self.examples[number].reward).collect();
            is_any_better |= rewards.iter().any(|reward| *reward != rewards[0]);
            for (&number, advantage) in numbers.iter().zip(objective.advantages(&rewards)) {
                self.examples[number].advantage = advantage;
            }
        }
        if !is_any_better {
            self.warnings.push(format!(
                "{}: no prompt has responses of different rewards: nothing tells {} one response from another; sample more \
                 responses a prompt, or look at how they were graded",
                file.name(),
                objective.name()
            ));
        }
    }

    fn label(&mut self, file: &RowFile, name: &str) {
        let mut right = 0;
        for &number in self.rows.iter().flatten() {
            let example = &mut self.examples[number];
            right += usize::from(example.is_right());
            example.reward = Some(f64::from(u8::from(example.is_right())));
        }
        let (kind, change) = match right {
            0 => ("wrong", "less"),
            all if all == self.rows.len() => ("right", "more"),
            _ => return,
        };
        self.warnings.push(format!(
            "{}: every response is {kind} (right is a reward above 0.5): {} makes all of them {change} likely, and no \
             response of the other kind holds against it",
            file.name(),
            name
        ));
    }

    fn pair(&mut self, file: &RowFile, max_per_prompt: usize, seed: u64) -> Result<()> {
        let responses: Vec<usize> = self.rows.iter().flatten().copied().collect();
        let made = pairs(&self.examples, &responses, max_per_prompt, seed);
        ensure!(
            !made.is_empty(),
            "{}: no prompt has both a right response (reward above 0.5) and a wrong one, so there is no pair to train on; \
             sample more responses a prompt, or give pairs of `chosen` and `rejected`",
            file.name()
        );
        self.rows = made.into_iter().map(Vec::from).collect();
        Ok(())
    }

    /// Forgets the examples that no row has.
    fn keep_used(&mut self) {
        let mut is_used = vec![false; self.examples.len()];
        self.rows.iter().flatten().for_each(|&number| is_used[number] = true);
        let new_numbers: Vec<usize> = is_used
            .iter()
            .scan(0, |count, &used| {
                let number = *count;
                *count += usize::from(used);
                Some(number)
            })
            .collect();
        self.rows.iter_mut().flatten().for_each(|number| *number = new_numbers[*number]);
        let mut used = is_used.iter();
        self.examples.retain(|_| used.next() == Some(&true));
    }
}
