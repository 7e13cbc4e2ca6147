//! A run's output directory: its configuration, its checkpoints, its result.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use super::optimizer_file;
use super::reference::REFERENCE_FILES;
use super::session::{Session, ValueSide};
use crate::files::{self, Condition, Fresh, Record};
use crate::model::{LoraConfig, ModelConfig, Parameter, Stored, TaskType, save_adapter, save_policy, save_value};
use crate::progress::say;

/// `OUT`, held for this process alone.
pub struct RunDir {
    path: PathBuf,
    /// Before the lock, so that what is taken away is so while no other process may begin.
    fresh: Fresh,
    /// Locked while the run goes on.
    _lock: File,
}

/// Where a run stands, beside its tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Finished optimizer steps.
    pub step: usize,
    /// Tokens that went in so far.
    pub num_tokens: u64,
    /// The best evaluation so far.
    #[serde(default)]
    pub best: Option<Best>,
    /// Whether the evaluation after this step was interrupted: it is made when the run goes on.
    #[serde(default)]
    pub owes_evaluation: bool,
}

/// The step with the best evaluation, the first of equals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub step: usize,
    pub accuracy: f64,
}

/// A checkpoint's directory.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct NumberedDir {
    step: usize,
    path: PathBuf,
}

/// What is saved with the networks, to load again in `transformers`.
pub struct ModelFiles<'a> {
    pub policy_config: &'a ModelConfig,
    pub value_config: &'a ModelConfig,
    /// The directory that the tokenizer is copied from.
    pub tokenizer: &'a Path,
    /// How the networks' adapters are applied, where these are what is saved.
    pub policy_adapter: Option<&'a LoraConfig>,
    pub value_adapter: Option<&'a LoraConfig>,
    /// How the weights of whole networks, and of adapters, are stored; `None`: as they are held.
    pub weights_dtype: Option<Dtype>,
    pub adapters_dtype: Option<Dtype>,
    /// The name of the adapters' base.
    pub base: String,
}

const CONFIG: &str = "config.toml";
const CHECKPOINT: &str = "checkpoint-";
const BEST: &str = "best";
const FINAL: &str = "final";
const LOCK: &str = "lock";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";

/// The step in the name of a checkpoint's directory.
fn checkpoint_step(name: &str) -> Option<usize> {
    name.strip_prefix(CHECKPOINT)?.parse().ok()
}

/// Holds a run's directory: two processes that trained in one would mix their steps.
fn lock(dir: &Path) -> Result<File> {
    files::open_locked(&dir.join(LOCK), dir)
}

impl RunDir {
    /// Whether a run has begun there.
    pub fn is_run(path: &Path) -> bool {
        path.join(CONFIG).exists()
    }

    /// Whether a process holds it.
    pub fn is_held(path: &Path) -> bool {
        files::is_held(&path.join(LOCK))
    }

    /// A new run's directory, with its configuration in it.
    ///
    /// # Errors
    /// Where there is a run already, or the directory cannot be written.
    pub fn create(path: &Path, record: &Record) -> Result<Self> {
        let refuse_a_run = || {
            ensure!(
                !Self::is_run(path),
                "{}: has a run already; go on with it by --resume, or choose another --output-dir",
                path.display()
            );
            Ok(())
        };
        refuse_a_run()?;
        let names = [CONFIG, LOCK].into_iter().chain(REFERENCE_FILES);
        let paths = names.map(|name| path.join(name)).chain([path.to_owned()]);
        let made = paths.filter(|path| !path.exists()).collect();
        files::make_dir(path)?;
        // From here on no other process trains there; before, one may have begun.
        let lock = lock(path)?;
        refuse_a_run()?;
        let fresh = Fresh::new(made);
        record.write(&path.join(CONFIG))?;
        Ok(Self { path: path.to_owned(), fresh, _lock: lock })
    }

    /// There is something to go on from: the directory stays, whatever happens.
    pub fn keep(&mut self) {
        self.fresh.keep();
    }

    /// The directory of a run that goes on. Of what a run may change, this one may not change what its rows `depend_on`.
    ///
    /// # Errors
    /// Where there is no run, or its settings or inputs are others.
    pub fn reopen(path: &Path, record: &Record, depend_on: &[&str]) -> Result<Self> {
        ensure!(Self::is_run(path), "{}: has no run to resume", path.display());
        let file = path.join(CONFIG);
        let lock = lock(path)?;
        record.check(&file, |name| MAY_CHANGE.contains(&name) && !depend_on.contains(&name), "the run")?;
        record.write(&file)?;
        let run = Self { path: path.to_owned(), fresh: Fresh::default(), _lock: lock };
        run.recover()?;
        Ok(run)
    }

    /// Puts in place what a process that was cut off was replacing.
    fn recover(&self) -> Result<()> {
        let names = self.names()?;
        let is_ours = |name: &&str| *name == BEST || *name == FINAL || checkpoint_step(name).is_some();
        let mut unfinished = names.iter().filter_map(|name| files::unfinished(name)).filter(is_ours);
        unfinished.try_for_each(|name| files::recover_dir(&self.path.join(name)))
    }

    fn names(&self) -> Result<Vec<String>> {
        let context = || format!("{}: cannot be listed", self.path.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).with_context(context)? {
            names.extend(entry.with_context(context)?.file_name().into_string().ok());
        }
        Ok(names)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The newest checkpoint whose manifest holds; stderr says why newer ones were passed over.
    ///
    /// # Errors
    /// Where the directory, or a file that may be whole, cannot be read.
    pub fn newest_checkpoint(&self) -> Result<Option<PathBuf>> {
        for NumberedDir { path, .. } in self.checkpoints()?.into_iter().rev() {
            match files::verify_dir(&path)? {
                Condition::Whole => return Ok(Some(path)),
                Condition::Damaged(how) => say(format_args!("a checkpoint is passed over: {how}")),
            }
        }
        Ok(None)
    }

    /// Checkpoints by step.
    fn checkpoints(&self) -> Result<Vec<NumberedDir>> {
        let numbered = |name: String| Some(NumberedDir { step: checkpoint_step(&name)?, path: self.path.join(name) });
        let mut found: Vec<_> = self.names()?.into_iter().filter_map(numbered).collect();
        found.sort();
        Ok(found)
    }

    /// Writes a checkpoint whole or not at all, then removes older ones, so that `keep` whole ones are left (0: all). One of
    /// this state that is whole stays as it is.
    ///
    /// # Errors
    /// Where a file cannot be written or the device fails; the checkpoints before it are kept then.
    pub fn save_checkpoint(
        &self,
        session: &mut Session,
        state: State,
        files: &ModelFiles,
        keep: usize,
    ) -> Result<PathBuf> {
        let dir = self.path.join(format!("{CHECKPOINT}{:06}", state.step));
        let is_there = files::verify_dir(&dir)? == Condition::Whole && read_state(&dir)? == state;
        if !is_there {
            files::write_dir(&dir, |dir| {
                save_networks(session, files, dir)?;
                optimizer_file::save(session, &dir.join(OPTIMIZER))?;
                let path = dir.join(STATE);
                fs::write(&path, serde_json::to_string(&state)?)
                    .with_context(|| format!("{}: cannot be written", path.display()))
            })?;
        }
        if keep > 0 {
            self.prune(state.step, keep)?;
        }
        Ok(dir)
    }

    /// Removes whole checkpoints from before a step, but for the newest; with the step's own `keep` are left. What is
    /// damaged counts for nothing.
    fn prune(&self, step: usize, keep: usize) -> Result<()> {
        let mut kept = 1;
        for NumberedDir { path, .. } in self.checkpoints()?.into_iter().rev().filter(|dir| dir.step < step) {
            if files::glance_at_dir(&path)? != Condition::Whole {
                continue;
            }
            if kept < keep {
                kept += 1;
            } else {
                files::discard_dir(&path)?;
            }
        }
        Ok(())
    }

    /// Writes `best`.
    ///
    /// # Errors
    /// Where a file cannot be written or the device fails; what was the best before is kept then.
    pub fn save_best(&self, session: &mut Session, best: Best, files: &ModelFiles) -> Result<PathBuf> {
        let dir = self.path.join(BEST);
        files::write_dir(&dir, |dir| {
            save_networks(session, files, dir)?;
            let path = dir.join(STATE);
            fs::write(&path, serde_json::to_string(&best)?)
                .with_context(|| format!("{}: cannot be written", path.display()))
        })?;
        Ok(dir)
    }

    /// Writes `final`.
    ///
    /// # Errors
    /// Where a file cannot be written or the device fails.
    pub fn save_final(&self, session: &mut Session, files: &ModelFiles) -> Result<PathBuf> {
        let dir = self.path.join(FINAL);
        files::write_dir(&dir, |dir| save_networks(session, files, dir))?;
        Ok(dir)
    }
}

/// Settings that a resumed run may have otherwise: they do not change what a step computes.
const MAY_CHANGE: [&str; 7] = [
    "output_dir",
    "gradient_checkpointing",
    "max_steps",
    "save_steps",
    "save_total_limit",
    "save_dtype",
    "eval_batch_size",
];

fn save_networks(session: &mut Session, files: &ModelFiles, dir: &Path) -> Result<()> {
    let (network, path) = (&mut session.policy.network, dir.join("policy"));
    match files.policy_adapter {
        Some(adapter) => {
            save_adapter(
                network.parameters_mut(),
                adapter,
                TaskType::CausalLm,
                &files.base,
                files.adapters_dtype,
                &path,
            )?;
        }
        None => save_policy(network, files.policy_config, files.weights_dtype, files.tokenizer, &path)?,
    }
    let Some(ValueSide { network, .. }) = &mut session.value else { return Ok(()) };
    let path = dir.join("value");
    match files.value_adapter {
        Some(adapter) => save_adapter(
            network.parameters_mut(),
            adapter,
            TaskType::of_value_network(files.value_config),
            &files.base,
            files.adapters_dtype,
            &path,
        ),
        None => save_value(network, files.value_config, files.weights_dtype, files.tokenizer, &path),
    }
}

/// The size of what is saved: the networks' weights, and with the optimizer its state.
pub fn saved_bytes(session: &mut Session, files: &ModelFiles, with_optimizer: bool) -> u64 {
    fn of_weights<'a>(
        parameters: impl Iterator<Item = &'a mut Parameter>,
        has_adapters: bool,
        dtype: Option<Dtype>,
    ) -> u64 {
        let saved = parameters.filter(|parameter| parameter.is_trained() || !has_adapters);
        let bytes = |parameter: &Parameter| parameter.len() * dtype.unwrap_or(parameter.stored_dtype()).bitsize() / 8;
        saved.map(|parameter| bytes(parameter) as u64).sum()
    }
    let dtype = |has_adapters| if has_adapters { files.adapters_dtype } else { files.weights_dtype };
    let [policy, value] = [files.policy_adapter, files.value_adapter].map(|adapter| adapter.is_some());
    let mut bytes = of_weights(session.policy.network.parameters_mut(), policy, dtype(policy));
    if let Some(side) = &mut session.value {
        bytes += of_weights(side.network.parameters_mut(), value, dtype(value));
    }
    if with_optimizer {
        bytes += optimizer_file::tensors(session).iter().map(|(_, tensor)| tensor.stored_bytes() as u64).sum::<u64>();
    }
    bytes
}

/// Fills a session's optimizer from a checkpoint, and says where the run stands. (The networks are read as models are.)
///
/// # Errors
/// Where a file is missing or does not fit the run.
pub fn load_state(session: &mut Session, checkpoint: &Path) -> Result<State> {
    optimizer_file::load(session, &checkpoint.join(OPTIMIZER))?;
    read_state(checkpoint)
}

fn read_state(checkpoint: &Path) -> Result<State> {
    let path = checkpoint.join(STATE);
    let text = fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}: is damaged", path.display()))
}
