//! Options that several methods have.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// What becomes of a response that was cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truncated {
    /// Its row is left out.
    Drop,
    /// It goes on with the value network's V after its last token.
    Bootstrap,
    /// It ends there: V after its last token is 0.
    #[default]
    Zero,
}

/// Of methods that train on given responses.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TruncatedOptions {
    /// What becomes of responses that were cut off
    #[arg(long, value_enum, default_value = "zero")]
    pub truncated: Truncated,
}

/// What the value network is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueNetwork {
    /// Adapters and a head of its own, on the policy's frozen base.
    SharedBase,
    /// A whole network of its own, all of it trained.
    Copy,
}

/// Of methods that train a value network.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ValueOptions {
    /// The value network's learning rate [default: the policy's]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_learning_rate: Option<f64>,
    /// The value network: adapters on the policy's base, or a whole one [default: shared-base with adapters, else copy]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<ValueNetwork>,
    /// A value network to start from, or with --value shared-base its adapters [default: the policy's, and a head of zeros]
    #[arg(long, value_name = "DIR|ID", value_parser = NonEmptyStringValueParser::new())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_model: Option<String>,
}

/// Of methods that hold the policy against a reference.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReferenceOptions {
    /// The reference policy [default: the policy as it starts: the model, and --adapter where it is given]
    #[arg(long, value_name = "DIR|ID", value_parser = NonEmptyStringValueParser::new())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ref_model: Option<String>,
}
