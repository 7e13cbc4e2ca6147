//! The kernels: a module for each shader, with its call, its checks and its CPU twin.
//!
//! A kernel is one name in few places: its line in `src/kernels/list.rs`, `shaders/NAME.wgsl`, `src/kernels/NAME.rs` (call and
//! twin) and `benches/NAME.rs` (its cases: what is tested, what is timed). A test walks them.

mod attention_texts;
mod dynamic_map;
mod halves;
mod kl_term;
mod list;
mod operand;
mod products;
mod split_room;
mod tiles;
mod variants;

pub use a2po::STATISTICS as A2PO_STATISTICS;
pub use adamw_8bit::BLOCK as MOMENT_BLOCK;
pub use add_bias::Biased;
pub use attention::{Heads, MAX_HEAD_DIM, MAX_TILES, OutputGradient, Projections, Sequences};
pub use attention_backward_key_value::KeyValueGradients;
pub use attention_cached::{CachedKeys, CachedOutput};
pub use column_sum::BLOCK_ROWS;
pub use dqo::STATISTICS as DQO_STATISTICS;
pub use dro::STATISTICS as DRO_STATISTICS;
pub use dropout::{Chance, hash};
pub use dynamic_map::{CODES as MOMENT_CODES, dynamic_maps};
pub use gated_mlp::Activation;
pub use gather_rows::NONE;
pub use grouped_linear::GroupedOutput;
pub use grouped_linear_backward_input::GroupedGradient;
pub use grpo::STATISTICS as GRPO_STATISTICS;
pub use kto::STATISTICS as KTO_STATISTICS;
pub use matmul::{Layout, Product};
pub use max_magnitude::Lines;
pub use operand::{Operand, OperandMut};
pub use ppo::STATISTICS as PPO_STATISTICS;
pub use products::FEW_ROWS;
pub use rms_norm_gated_linear::GatedWeights;
pub use rms_norm_linear::NormScale;
pub use split_heads::Split;
pub use split_room::{ProjectionsRoom, SplitRoom};
pub use sum_squares::BLOCK as SUM_SQUARES_BLOCK;
pub use tiles::{LONGEST_SUM_OF_SHORT_LOOPS, Tile, suits_norm_rows};
pub use variants::{launch_flat, only, shared};

pub(crate) use kl_term::kl_term;
pub(crate) use lambda_return::{Weights, for_each_return};

macro_rules! declare {
    ($($name:ident: $call:ident,)*) => {
        $(
            mod $name;
            pub use $name::$call;
        )*

        /// Every kernel; a test holds it against the shader files.
        pub const ALL: &[&crate::gpu::Signature] = &[$(<$call as crate::device::Call>::SIGNATURE),*];
    };
}
crate::for_each_kernel!(declare);
