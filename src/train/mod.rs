//! The trainer: one loop for every method.

mod adapters;
mod config;
mod course;
mod inputs;
mod log;
mod logps;
mod models;
mod moments;
mod offline;
mod online;
mod optimizer;
mod optimizer_file;
mod plan;
mod reference;
mod rounds;
mod rows;
mod run;
mod run_dir;
mod schedule;
mod scores;
mod selection;
mod session;
mod settings;
mod shared_sum;
mod signs;
mod source;
mod tensorboard;
mod trainer;
mod values;
mod watch;

pub use config::{
    EvaluationOptions, LoraOptions, OptimizerOptions, OptimizerType, SavingOptions, StepOptions, TargetModule,
    TrainConfig,
};
pub use inputs::Inputs;
pub use logps::{Scorer, Scoring, TokenLogps};
pub use plan::Plan;
pub use run::{Outcome, Run};
pub use schedule::{Schedule, SchedulerType};
pub use session::{EvalRoom, Session, Sources, TrainRoom};
pub use settings::{MethodArgs, TrainSettings, read_table};
pub use shared_sum::{BUCKET, SharedPlan, SharedSum, Turn};
pub use source::Source;
pub use trainer::{Saved, Trainer};
pub use values::ValueScorer;
pub use watch::Watch;
