//! Pages for people: runs side by side, and the values along responses; each an HTML file that stands alone.

mod comparison;
mod correlation;
mod demo;
mod document;
mod metrics;
mod number;
mod page;
mod plot;
mod run;
mod scale;
mod scatter;
mod valued;
mod values;

pub use comparison::report;
pub use correlation::{pearson, spearman};
pub use demo::{Measured, demo_page};
pub use document::{Figure, Section, document};
pub use plot::Line;
pub use run::Point;
pub use valued::{ValuedResponses, ValuesConfig, value_responses};
pub use values::{Correlation, ValuedResponse, ValuedSegment, ValuedToken, values_page};
