//! The experiments: the regime, every method, the ablations near the reference and away from it, and what V knows.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use toml::{Table, toml};

use crate::data::{Data, count};
use crate::knowledge::{Case, Learned, over_a_run, wrong_response};
use crate::lab::Lab;
use crate::methods::{Row, SEEDS, choose, described, evaluated, grids, over_seeds, seeded};
use crate::regime::{NEAR, Place, Regime, first_weight, following};

/// What is switched, one thing at a time, in settings of DQO.
pub struct Ablations {
    /// The settings.
    pub of: String,
    /// The four settings of the importance weights.
    pub importance: Vec<Row>,
    pub lambda: Vec<Row>,
    pub process: Vec<Row>,
}

/// What V knows over the steps of a run.
pub struct Course {
    pub name: &'static str,
    pub learned: Vec<Learned>,
}

/// Everything that is reported.
pub struct Results {
    /// Rollouts, and the share of right ones.
    pub rollouts: (usize, f64),
    pub base: Row,
    pub methods: Vec<Row>,
    pub regime: Regime,
    pub following: Vec<(&'static str, Place)>,
    /// In the settings that the grid chose, and in the best of those whose policy stays near its reference.
    pub ablations: [Ablations; 2],
    /// The importance weights on rollouts of a younger policy, in the settings that the grid chose.
    pub young: Vec<Row>,
    /// The mean importance weight of the first step's responses, of the base's rollouts and of the younger policy's.
    pub first_weights: [f64; 2],
    pub courses: Vec<Course>,
    /// A wrong response.
    pub case: Case,
}

/// Runs everything that is not there yet.
pub fn run(lab: &Lab) -> Result<Results> {
    let data = Data::prepare(lab)?;
    let base = evaluated(lab, &data, "base", String::new(), |_| Ok(data.base.clone()))?;

    let regime = Regime::of(lab, &data)?;
    let following = following(lab, &data)?;
    let tried =
        |least: f64| regime.grid.iter().filter(move |place| place.weight >= least).map(|place| place.settings.clone());
    let near = choose(lab, &data, tried(NEAR).collect()).context("a policy that stays near its reference")?;
    let chosen = choose(lab, &data, tried(0.0).collect())?;

    let mut methods = Vec::new();
    for (method, grid) in grids(&data, vec![chosen.clone()]) {
        let chosen = choose(lab, &data, grid)?;
        methods.push(over_seeds(lab, &data, method, described(&chosen), &chosen)?);
    }
    let away = Switches { lab, data: &data, name: "dqo", settings: &chosen };
    let stays = Switches { lab, data: &data, name: "near", settings: &near };

    let course =
        |name, run: &Path| Ok::<_, anyhow::Error>(Course { name, learned: over_a_run(lab, run, &data.held_back)? });
    let near_run = run_with_checkpoints(lab, "near", &near, true)?;
    let courses = vec![
        course("chosen settings", &run_with_checkpoints(lab, "chosen", &chosen, true)?)?,
        course("near the reference", &near_run)?,
        course("chosen settings, no weight in V's loss", &run_with_checkpoints(lab, "chosen-off", &chosen, false)?)?,
    ];
    let case = wrong_response(&lab.values(&near_run.join("final/value"), &data.held_back)?.responses)?;

    let (count, right) = count(&data.rollouts)?;
    let first_weight = |run: &str| first_weight(&lab.path(&format!("runs/{run}-1")));
    Ok(Results {
        rollouts: (count, right as f64 / count as f64),
        base,
        methods,
        regime,
        following,
        ablations: [away.ablations()?, stays.ablations()?],
        young: away.importance("young", &data.young)?,
        first_weights: [first_weight("dqo")?, first_weight("young-true-true")?],
        courses,
        case,
    })
}

/// Settings of DQO in which one thing is switched at a time.
struct Switches<'a> {
    lab: &'a Lab,
    data: &'a Data,
    /// The name of the runs in the settings as they are.
    name: &'static str,
    settings: &'a Table,
}

impl Switches<'_> {
    fn ablations(&self) -> Result<Ablations> {
        let scored = self.data.scored.display().to_string();
        let paper = toml! { lambda = 0.95
            lambda_tail = "paper"
        };
        Ok(Ablations {
            of: described(self.settings),
            importance: self.importance(self.name, &self.data.rollouts)?,
            lambda: vec![
                self.switched("lambda-standard", "lambda 0.95, usual weights", toml! { lambda = 0.95 })?,
                self.switched("lambda-paper", "lambda 0.95, weights as eq. 3.11 prints them", paper)?,
                self.unchanged("lambda 1")?,
            ],
            process: vec![
                self.unchanged("without process rewards")?,
                self.switched("process", "with process rewards", toml! { data = scored })?,
            ],
        })
    }

    fn importance(&self, name: &str, rollouts: &Path) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for (policy_is, value_is) in [(false, false), (false, true), (true, false), (true, true)] {
            let text = format!("Q-loss {} IS, V-loss {} IS", with(policy_is), with(value_is));
            let file = rollouts.display().to_string();
            let changes = toml! { data = file
                policy_is = policy_is
                value_is = value_is
            };
            rows.push(match policy_is && value_is && name == self.name {
                true => self.unchanged(&text)?,
                false => self.run(&format!("{name}-{policy_is}-{value_is}"), &text, changes)?,
            });
        }
        Ok(rows)
    }

    fn unchanged(&self, text: &str) -> Result<Row> {
        self.run(self.name, text, Table::new())
    }

    fn switched(&self, what: &str, text: &str, changes: Table) -> Result<Row> {
        self.run(&format!("{}-{what}", self.name), text, changes)
    }

    fn run(&self, name: &str, text: &str, changes: Table) -> Result<Row> {
        let mut settings = self.settings.clone();
        settings.extend(changes);
        over_seeds(self.lab, self.data, name, text.to_owned(), &settings)
    }
}

fn with(on: bool) -> &'static str {
    if on { "with" } else { "without" }
}

/// A run in these settings that keeps its networks every 20 steps.
fn run_with_checkpoints(lab: &Lab, dir: &str, settings: &Table, value_is: bool) -> Result<PathBuf> {
    let mut settings = seeded(settings, SEEDS[0]);
    settings.extend(toml! { value_is = value_is
        save_steps = 20
        save_total_limit = 0
    });
    lab.train(&format!("courses/{dir}"), &settings)
}
