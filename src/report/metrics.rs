//! The metrics that a run may have: their order on the page, and what each is.

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
            ("rewards" | "values" | "returns" | "advantages", _) => Self::RewardsAndValues,
            ("is_weight" | "ratio" | "logps" | "logits" | "policy", _) => Self::Policy,
            (_, "reward" | "value") => Self::RewardsAndValues,
            (_, "kl" | "approx_kl" | "entropy" | "ratio" | "clip_frac" | "value_clip_frac") => Self::Policy,
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

/// What a metric is, in a few words; nothing where the name is not one of this project's.
pub fn about(metric: &str) -> &'static str {
    match metric {
        "loss" => "what is minimised",
        "policy_loss" => "of the policy",
        "value_loss" => "of the value network",
        "eval/accuracy" => "share of problems solved",
        "rewards/mean" => "mean reward of the step's responses",
        "rewards/chosen" => "implicit reward of chosen responses",
        "rewards/rejected" => "implicit reward of rejected responses",
        "rewards/margins" => "chosen over rejected",
        "rewards/accuracies" => "share of pairs ordered rightly",
        "values/mean" => "mean V over the response tokens",
        "values/explained_variance" => "share of the returns' variance explained by V",
        "kl" => "log-ratio to the reference, of a response",
        "approx_kl" => "half the mean square of log pi - log pi_old",
        "ratio/mean" => "mean of pi / pi_old, a token",
        "clip_frac" => "share of ratios clipped",
        "value_clip_frac" => "share of values clipped",
        "entropy" => "of the policy, a token",
        "is_weight/mean" => "mean importance of a response",
        "is_weight/clip_frac" => "share of importances clipped",
        "grad_norm" => "policy, before clipping",
        "value_grad_norm" => "value network, before clipping",
        "learning_rate" => "policy",
        "value_learning_rate" => "value network",
        "epoch" => "passes over the data",
        "round" => "of sampling and training",
        "num_tokens" => "tokens since the start",
        "tokens_per_second" => "speed of a step",
        "seconds" => "time of a step",
        "peak_memory_bytes" => "most memory allocated",
        _ => "",
    }
}
