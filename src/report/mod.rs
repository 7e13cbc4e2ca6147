//! Pages for people: runs side by side, and the values along responses; each an HTML file that stands alone.

mod areas;
mod claim;
mod comparison;
mod configurations;
mod correlation;
mod curve;
mod curves;
mod demo;
mod document;
mod histogram;
mod metrics;
mod number;
mod page;
mod plot;
mod read;
mod response;
mod responses;
mod run;
mod scale;
mod scatter;
mod summary;
mod thin;
mod valued;
mod values;
mod written;

pub use areas::{RocArea, outcome_area, roc_area, segment_area};
pub use comparison::report;
pub use correlation::{pearson, spearman};
pub use curve::Point;
pub use demo::{Measured, demo_page};
pub use document::{Figure, Section, document};
pub use plot::Line;
pub use response::{Correlation, ValuedResponse, ValuedSegment, ValuedToken};
pub use valued::{ValuedResponses, ValuesConfig, value_responses};
pub use values::values_page;
