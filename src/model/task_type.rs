//! What kind of network adapters belong to, as PEFT names it.

use anyhow::{Context, Result};

use super::config::ModelConfig;

/// What kind of network adapters belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskType {
    CausalLm,
    /// A value network: its head is stored with the adapters.
    TokenCls,
    /// A value network whose head has no bias (Gemma 3's).
    SeqCls,
}

impl TaskType {
    const ALL: [Self; 3] = [Self::CausalLm, Self::TokenCls, Self::SeqCls];

    /// PEFT's name of it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CausalLm => "CAUSAL_LM",
            Self::TokenCls => "TOKEN_CLS",
            Self::SeqCls => "SEQ_CLS",
        }
    }

    /// That of PEFT's name.
    pub(super) fn of_name(name: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|task_type| task_type.name() == name);
        known.with_context(|| format!("task_type {name:?} is not supported; CAUSAL_LM, TOKEN_CLS and SEQ_CLS are"))
    }

    /// Whether it is a value network's.
    pub(super) fn is_value_network(self) -> bool {
        self != Self::CausalLm
    }

    /// That of a model's value networks.
    pub fn of_value_network(config: &ModelConfig) -> Self {
        if config.value_head_has_bias() { Self::TokenCls } else { Self::SeqCls }
    }
}
