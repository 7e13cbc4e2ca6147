//! Every kernel on made-up data: `dqo-wgpu bench` times these cases, the tests check them.
//!
//! A kernel's file has its cases: `tests()` says on which shapes it is tested, with which tolerance and why, `bench()` which
//! are rows of the table, `large()` which are rows on a GPU alone.

pub mod case;
pub mod decode;
pub mod host;
pub mod large;
pub mod limits;
pub mod pipelines;
pub mod random_blocks;
pub mod serial_return;
pub mod shape;
pub mod step;
pub mod table;
pub mod timing;

use case::Case;

/// A kernel's cases, made when they are asked for.
pub struct Cases {
    /// The kernel's name.
    pub kernel: &'static str,
    /// What is tested.
    pub tests: fn() -> Vec<Case>,
    /// The rows of the table.
    pub bench: fn() -> Vec<Case>,
}

macro_rules! declare {
    ($($name:ident: $call:ident,)*) => {
        $(pub mod $name;)*

        /// Every kernel's cases, in the order of [`crate::kernels::ALL`].
        pub const CASES: &[Cases] =
            &[$(Cases { kernel: stringify!($name), tests: $name::tests, bench: $name::bench }),*];
    };
}
crate::for_each_kernel!(declare);
