//! The adapters of a run: which networks have them, and what they begin as.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::config::{TrainConfig, ValueNetwork};
use crate::model::{Adapter, LINEAR_LAYERS, LoraConfig};

/// Alpha of new adapters, where none is named.
const ALPHA: f64 = 16.0;

/// The adapters of policy and value network; without any, networks are trained whole.
pub struct Adapters {
    policy: Option<Adapter>,
    /// Of a value network on the policy's base; `None` where it begins with the policy's.
    value: Option<Adapter>,
    /// Whether the value network is on the policy's base.
    shares_base: bool,
    /// Whether the reference is another model.
    other_reference: bool,
}

impl Adapters {
    /// As the configuration has them at the beginning.
    ///
    /// # Errors
    /// Names the option, or the file and field, that is wrong.
    pub fn open(config: &TrainConfig, uses_value: bool) -> Result<Self> {
        let policy = match &config.adapter {
            Some(dir) => Some(Adapter::open(dir)?),
            None => config.lora().map(|lora| Adapter::new(lora, config.seed)),
        };
        let value_dir = config.value_model.as_deref().map(Path::new);
        let value_dir = value_dir.filter(|dir| dir.join("adapter_config.json").exists());
        let shares_base = match config.value.unwrap_or(ValueNetwork::of(policy.is_some())) {
            ValueNetwork::SharedBase => {
                ensure!(
                    policy.is_some(),
                    "--value shared-base: the value network is adapters on the policy's frozen base; give --lora-r or \
                     --adapter too"
                );
                true
            }
            ValueNetwork::Copy => false,
        };
        match (&config.value_model, value_dir) {
            (Some(name), None) if shares_base && uses_value => bail!(
                "--value-model {name}: is a whole network, and with --value shared-base the value network is an adapter; \
                 give its directory, or --value copy"
            ),
            (Some(name), Some(_)) if !shares_base => {
                bail!(
                    "--value-model {name}: is an adapter, which goes with --value shared-base and --lora-r or --adapter"
                )
            }
            (None, _) if config.adapter.is_some() && !shares_base && uses_value => bail!(
                "--value copy begins with the policy's weights, of which --adapter is a part; merge them first (`merge`), \
                 or name a --value-model"
            ),
            _ => {}
        }
        let value = value_dir.map(|dir| {
            let adapter = Adapter::open(dir)?;
            adapter.need_value_network(&format!("--value-model {}", dir.display())).map(|()| adapter)
        });
        let value = value.transpose()?;
        Ok(Self { policy, value, shares_base: shares_base && uses_value, other_reference: config.ref_model.is_some() })
    }

    /// As a checkpoint has them.
    ///
    /// # Errors
    /// Names the file that is missing or wrong.
    pub fn kept_in(&self, checkpoint: &Path) -> Result<Self> {
        let open = |part: &str, is_there: bool| is_there.then(|| Adapter::open(&checkpoint.join(part))).transpose();
        Ok(Self { policy: open("policy", self.policy.is_some())?, value: open("value", self.shares_base)?, ..*self })
    }

    /// The policy's.
    pub fn policy(&self) -> Option<&Adapter> {
        self.policy.as_ref()
    }

    /// The value network's, where it is on the policy's base.
    pub fn value(&self) -> Option<&Adapter> {
        let begun = self.value.as_ref().or(self.policy.as_ref());
        begun.filter(|_| self.shares_base)
    }

    /// The reference's: it is the policy as it starts, which new adapters do not change.
    pub fn reference(&self) -> Option<&Adapter> {
        self.policy().filter(|adapter| adapter.is_stored() && !self.other_reference)
    }
}

impl TrainConfig {
    /// New adapters, where the configuration wants any.
    fn lora(&self) -> Option<LoraConfig> {
        let targets = self.lora_target_modules.iter().map(|module| module.name().to_owned());
        (self.lora_r > 0).then(|| LoraConfig {
            r: self.lora_r,
            alpha: self.lora_alpha.unwrap_or(ALPHA),
            use_rslora: false,
            target_modules: targets.collect(),
        })
    }

    /// Checks the options of adapters against each other.
    pub(super) fn check_lora(&self) -> Result<()> {
        let alpha = self.lora_alpha.unwrap_or(ALPHA);
        ensure!(alpha > 0.0 && alpha.is_finite(), "--lora-alpha is {alpha}, which is out of its range");
        let new = [
            ("--lora-alpha", self.lora_alpha.is_some()),
            ("--lora-target-modules", self.lora_target_modules.len() < LINEAR_LAYERS.len()),
        ];
        for (option, given) in new {
            ensure!(!given || self.lora_r > 0, "{option} goes with --lora-r, and describes new adapters");
        }
        ensure!(
            self.adapter.is_none() || self.lora_r == 0,
            "--adapter and --lora-r: the adapters to go on from have their rank; leave --lora-r out"
        );
        Ok(())
    }
}
