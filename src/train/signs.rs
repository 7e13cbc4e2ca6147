//! Signs that a run has gone wrong, in its steps' metrics: each is said once, with what to do.

use super::log::MetricsRow;

/// What the steps so far have shown.
pub struct Signs {
    /// Nats of a distribution that prefers nothing: log of the vocabulary's size.
    most_entropy: f64,
    first_entropy: Option<f64>,
    /// The metrics of which a sign was said.
    said: Vec<&'static str>,
    /// Passes over the data before the last step.
    epochs: f64,
    /// Steps of this pass.
    steps: usize,
    /// Whether V explained less than nothing in every step since the pass began.
    misleads_so_far: bool,
    /// Whether it did in a whole pass, which the last step ended.
    misled_for_a_pass: bool,
}

/// A pass of fewer steps says little.
const FEW: usize = 5;

const EXPLAINED: &str = "values/explained_variance";

/// A metric out of its bounds.
struct Sign {
    metric: &'static str,
    shows: fn(&Signs, f64) -> bool,
    means: &'static str,
}

const SIGNS: [Sign; 4] = [
    Sign {
        metric: "is_weight/mean",
        shows: |_, weight| weight < 0.01,
        means: "the policy has left the responses that it learns from, and they weigh next to nothing; use a smaller \
                --learning-rate, a larger --beta or --value-is false, or sample new responses",
    },
    Sign {
        metric: "log_ratio",
        shows: |_, log_ratio| log_ratio.abs() > 50.0,
        means: "the policy is far from its reference; use a smaller --learning-rate, a larger --beta or fewer passes",
    },
    Sign {
        metric: "entropy",
        shows: |signs, entropy| entropy < 1e-3 || signs.prefers_nothing(entropy),
        means: "the policy writes one text alone, or any; use a smaller --learning-rate, and go on from a checkpoint before",
    },
    Sign {
        metric: EXPLAINED,
        shows: |signs, _| signs.misled_for_a_pass,
        means: "for a whole pass V was further from the returns than their mean is; use another --value-learning-rate, or more \
                rows a step",
    },
];

impl Signs {
    /// Before the first step.
    pub fn new(vocab_size: usize) -> Self {
        let most_entropy = (vocab_size as f64).ln();
        Self {
            most_entropy,
            first_entropy: None,
            said: Vec::new(),
            epochs: 0.0,
            steps: 0,
            misleads_so_far: true,
            misled_for_a_pass: false,
        }
    }

    /// Looks at a step's metrics; what is to be said of them.
    pub fn of_step(&mut self, step: usize, row: &MetricsRow) -> Vec<String> {
        self.see(&|name| row.iter().find(|(metric, _)| *metric == name).map(|(_, value)| *value), step)
    }

    /// As [`Signs::of_step`], of a row that was written before and whose signs were said then.
    pub fn of_record(&mut self, row: &serde_json::Value) {
        self.see(&|name| row[name].as_f64(), 0);
    }

    /// Whether nearly all tokens are as likely by now; not of a model that was made so, to be trained from nothing.
    fn prefers_nothing(&self, entropy: f64) -> bool {
        let knew = self.first_entropy.is_some_and(|first| first < 0.5 * self.most_entropy);
        knew && entropy > 0.75 * self.most_entropy
    }

    fn see(&mut self, value_of: &dyn Fn(&str) -> Option<f64>, step: usize) -> Vec<String> {
        let epochs = value_of("epoch").unwrap_or(self.epochs);
        let misleads = self.misleads_so_far && value_of(EXPLAINED).is_some_and(|explained| explained < 0.0);
        let ends_pass = epochs.floor() > self.epochs.floor();
        self.epochs = epochs;
        self.first_entropy = self.first_entropy.or_else(|| value_of("entropy"));
        self.steps += 1;
        self.misled_for_a_pass = misleads && ends_pass && self.steps >= FEW;
        self.steps = if ends_pass { 0 } else { self.steps };
        self.misleads_so_far = misleads || ends_pass;
        let mut said = Vec::new();
        for Sign { metric, shows, means } in &SIGNS {
            let Some(value) = value_of(metric).filter(|&value| shows(self, value)) else { continue };
            if !self.said.contains(metric) {
                self.said.push(metric);
                // A small number's first digits.
                let value = if value.abs() < 1e-3 { format!("{value:.0e}") } else { format!("{value:.3}") };
                said.push(format!("step {step}: {metric} is {value}: {means}"));
            }
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(rows: &[MetricsRow]) -> Vec<String> {
        let mut signs = Signs::new(1000);
        let of_step = |(step, row): (usize, &MetricsRow)| signs.of_step(step + 1, row);
        let said = rows.iter().enumerate().flat_map(of_step);
        said.map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(": ")).collect()
    }

    #[test]
    fn a_metric_out_of_its_bounds_is_said_once() {
        for (metric, good, bad) in [
            ("is_weight/mean", 0.011, 0.009),
            ("log_ratio", -49.0, -51.0),
            ("log_ratio", 49.0, 51.0),
            ("entropy", 0.002, 0.0),
            ("entropy", 3.0, 5.2), // log 1000 is 6.9
        ] {
            let row = |value| vec![("epoch", 0.5), (metric, value)];
            let shown = if bad == 0.0 { "0e0".to_owned() } else { format!("{bad:.3}") };
            assert_eq!(said(&[row(good), row(bad), row(bad)]), [format!("step 2: {metric} is {shown}")]);
        }
        let untrained = [vec![("entropy", 6.8)], vec![("entropy", 6.9)]];
        assert!(said(&untrained).is_empty());
    }

    #[test]
    fn v_must_mislead_for_a_whole_pass() {
        let row = |epoch, explained| vec![("epoch", epoch), (EXPLAINED, explained)];
        let pass = |before: f64, explained: [f64; 5]| {
            let step = |(index, explained)| row(before + 0.2 * (index + 1) as f64, explained);
            explained.into_iter().enumerate().map(step).collect::<Vec<_>>()
        };
        let first_pass = pass(0.0, [-0.2, -0.2, 0.1, -0.2, -0.2]);
        assert!(said(&first_pass).is_empty());
        let both = [first_pass, pass(1.0, [-0.3; 5])].concat();
        assert_eq!(said(&both), [format!("step 10: {EXPLAINED} is -0.300")]);
        // Passes may end within a step.
        let [.., last] = &mut pass(0.0, [-0.2; 5])[..] else { unreachable!() };
        last[0].1 = 1.1;
        assert_eq!(said(&[pass(0.0, [-0.2; 5])[..4].to_vec(), vec![last.clone()]].concat()).len(), 1);
        assert!(said(&[row(0.5, -0.2), row(1.0, -0.2), row(1.5, -0.2), row(2.0, -0.2)]).is_empty());
    }

    /// A run that goes on says nothing again.
    #[test]
    fn what_was_said_before_is_not_said_again() {
        let mut signs = Signs::new(1000);
        for step in 1..5 {
            let epoch = 0.2 * f64::from(step);
            signs.of_record(&serde_json::json!({ "step": step, "epoch": epoch, "log_ratio": -110.0, EXPLAINED: -0.5 }));
        }
        let row = vec![("epoch", 1.0), ("log_ratio", -110.0), (EXPLAINED, -0.5)];
        assert_eq!(signs.of_step(5, &row).len(), 1);
    }
}
