//! The trainer: one loop for every method.

mod adapters;
mod config;
mod course;
mod log;
mod logps;
mod online;
mod optimizer;
mod plan;
mod reference;
mod rounds;
mod run;
mod run_dir;
mod schedule;
mod selection;
mod session;
mod steps;
mod tensorboard;
mod values;

pub use config::{LinearLayer, LossReduction, Method, OptimizerType, TrainConfig, Truncated, ValueNetwork};
pub use logps::{Scorer, TokenLogps};
pub use plan::Plan;
pub use run::{Outcome, Run};
pub use schedule::{Schedule, SchedulerType};
pub use session::{EvalRoom, Session, Source, Sources};
pub use values::ValueScorer;
