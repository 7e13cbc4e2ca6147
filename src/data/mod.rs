//! Rows, templates, tokens, packed batches.

mod batch;

pub use batch::group_by_id;
