//! The metrics that a run may have: their order on the page, and what each is.

use crate::objective::METHODS;

/// What a metric is about; the page has them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Losses,
    Evaluation,
    RewardsAndValues,
    Policy,
    Optimisation,
    SpeedAndMemory,
    Other,
}

impl Group {
    pub const ALL: [Self; 7] = [
        Self::Losses,
        Self::Evaluation,
        Self::RewardsAndValues,
        Self::Policy,
        Self::Optimisation,
        Self::SpeedAndMemory,
        Self::Other,
    ];

    /// The group of a metric, by its name.
    pub fn of(metric: &str) -> Self {
        let (family, rest) = metric.split_once('/').unwrap_or(("", metric));
        match (family, rest) {
            ("eval", _) => Self::Evaluation,
            ("rewards" | "values" | "returns" | "advantages" | "responses", _) => Self::RewardsAndValues,
            ("is_weight" | "ratio" | "logps" | "logits" | "policy", _) => Self::Policy,
            (_, "reward" | "value") => Self::RewardsAndValues,
            (_, "log_ratio" | "kl" | "approx_kl" | "entropy" | "ratio" | "clip_frac" | "value_clip_frac") => {
                Self::Policy
            }
            (_, "epoch" | "round" | "num_tokens" | "tokens_per_second" | "seconds" | "peak_memory_bytes") => {
                Self::SpeedAndMemory
            }
            (_, name) if name == "loss" || name.ends_with("_loss") => Self::Losses,
            (_, name) if name.ends_with("grad_norm") || name.ends_with("learning_rate") => Self::Optimisation,
            _ => Self::Other,
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::Losses => "Losses",
            Self::Evaluation => "Evaluation",
            Self::RewardsAndValues => "Rewards and values",
            Self::Policy => "Policy",
            Self::Optimisation => "Optimisation",
            Self::SpeedAndMemory => "Speed and memory",
            Self::Other => "Other",
        }
    }
}

/// What a metric is, in a few words, by the method that reports it or the trainer; nothing where neither knows it.
pub fn about(metric: &str) -> &'static str {
    let of_methods = METHODS.iter().flat_map(|method| method.metrics).find(|about| about.metric == metric);
    of_methods.map_or_else(|| of_trainer(metric), |about| about.is)
}

fn of_trainer(metric: &str) -> &'static str {
    match metric {
        "eval/accuracy" => "share of problems solved",
        "responses/length" => "mean tokens of a round's responses",
        "responses/cut_off" => "share of a round's responses that were cut off",
        "entropy" => "of the policy, a token",
        "grad_norm" => "policy, before clipping",
        "value_grad_norm" => "value network, before clipping",
        "learning_rate" => "policy",
        "value_learning_rate" => "value network",
        "epoch" => "passes over the data",
        "num_tokens" => "tokens since the start",
        "tokens_per_second" => "speed of a step",
        "seconds" => "time of a step",
        "peak_memory_bytes" => "most memory allocated",
        _ => "",
    }
}

/// What an axis of a metric's values spans at least, so that noise is not drawn as a peak: of a share, or of what is at most
/// 1, a twentieth. Of others nothing is known but their size, of which an axis spans a tenth (chart.js).
pub fn least_span(metric: &str) -> f64 {
    let of_one = ["accuracy", "accuracies", "clip_frac", "explained_variance", "cut_off"];
    if of_one.iter().any(|ending| metric.ends_with(ending)) { 0.05 } else { 0.0 }
}
