//! The adapters of a run: which networks have them, and what they begin as.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::config::TrainConfig;
use crate::model::{Adapter, is_adapter};
use crate::objective::{Objective, ValueNetwork, ValueOptions};

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
    /// As the settings have them at the beginning.
    ///
    /// # Errors
    /// Names the option, or the file and field, that is wrong.
    pub fn open(config: &TrainConfig, objective: &dyn Objective) -> Result<Self> {
        let policy = match &config.model.adapter {
            Some(dir) => Some(Adapter::open(dir)?),
            None => config.lora.lora().map(|lora| Adapter::new(lora, config.seed)),
        };
        let other_reference = objective.reference().is_some_and(|reference| reference.ref_model.is_some());
        let Some(options) = objective.value_network() else {
            return Ok(Self { policy, value: None, shares_base: false, other_reference });
        };
        let default = if policy.is_some() { ValueNetwork::SharedBase } else { ValueNetwork::Copy };
        let shares_base = options.value.unwrap_or(default) == ValueNetwork::SharedBase;
        if let Some(option) = config.model.weights.of_base() {
            ensure!(
                shares_base,
                "--value copy goes without {option}: that value network is trained whole, and has no frozen base"
            );
        }
        let value_dir = options.value_model.as_deref().map(Path::new);
        let value_dir = value_dir.filter(|dir| is_adapter(dir));
        check_value_network(options, shares_base, policy.is_some(), value_dir.is_some())?;
        ensure!(
            shares_base || options.value_model.is_some() || config.model.adapter.is_none(),
            "--value copy begins with the policy's weights, of which --adapter is a part; merge them first (`merge`), or name \
             a --value-model"
        );
        let value = value_dir.map(|dir| {
            let adapter = Adapter::open(dir)?;
            adapter.need_value_network(&format!("--value-model {}", dir.display())).map(|()| adapter)
        });
        let mut value = value.transpose()?;
        // Dropout is the run's, of both networks.
        if let (Some(value), Some(policy)) = (&mut value, &policy) {
            value.config.dropout = policy.config.dropout;
        }
        Ok(Self { policy, value, shares_base, other_reference })
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

    /// Whether training steps leave out some of what adapters read.
    pub fn have_dropout(&self) -> bool {
        self.policy.as_ref().is_some_and(|adapter| adapter.config.dropout > 0.0)
    }

    /// The reference's: it is the policy as it starts, which new adapters do not change.
    pub fn reference(&self) -> Option<&Adapter> {
        self.policy().filter(|adapter| adapter.is_stored() && !self.other_reference)
    }
}

/// Checks that what the value network starts from is what it is made of.
fn check_value_network(
    options: &ValueOptions,
    shares_base: bool,
    policy_has_adapters: bool,
    is_adapter: bool,
) -> Result<()> {
    ensure!(
        !shares_base || policy_has_adapters,
        "--value shared-base: the value network is adapters on the policy's frozen base; give --lora-r or --adapter too"
    );
    match &options.value_model {
        Some(name) if shares_base && !is_adapter => bail!(
            "--value-model {name}: is a whole network, and with --value shared-base the value network is an adapter; give its \
             directory, or --value copy"
        ),
        Some(name) if !shares_base && is_adapter => {
            bail!("--value-model {name}: is an adapter, which goes with --value shared-base and --lora-r or --adapter")
        }
        _ => Ok(()),
    }
}
