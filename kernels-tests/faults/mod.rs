//! Faults of the file system, at every call that a verb makes: the process is killed, the disk is full, a call fails or is
//! interrupted. The same command, given again, must come to the bits of the run that met none, and leave nothing beside them.
//!
//! `cargo test` takes some of the points, others every time; `tools/faults` takes all.

mod command;
mod power;
mod sweep;
mod two;
