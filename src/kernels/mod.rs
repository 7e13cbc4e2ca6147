//! The kernels: a module for each shader, with its call, its checks and its CPU twin.
//!
//! A kernel is one name in five places: `shaders/NAME.wgsl`, `src/kernels/NAME.rs` (call and twin), a case in
//! `kernels-tests/NAME.rs` and a row in `benches/NAME.rs`. A test walks them.

mod adamw;
mod add_bias;
mod add_rms_norm;
mod attention;
mod attention_backward_delta;
mod attention_backward_key_value;
mod attention_backward_query;
mod attention_cached;
mod column_sum;
mod dpo;
mod dqo;
mod dro;
mod embedding;
mod embedding_backward;
mod gated_mlp;
mod gated_mlp_backward;
mod gather_rows;
mod kto;
mod lambda_return;
mod log_softmax;
mod log_softmax_backward;
mod mark_step;
mod matmul;
mod matmul_nn;
mod matmul_nt;
mod matmul_tn;
mod ppo;
mod rms_norm;
mod rms_norm_backward;
mod rms_norm_backward_weight;
mod rope;
mod round_bf16;
mod sample_token;
mod scale;
mod scatter_rows;
mod sequence_sum;
mod sft;
mod sgd;
mod sum_squares;
mod value_head;
mod value_head_backward;
mod variants;

pub use adamw::AdamW;
pub use add_bias::AddBias;
pub use add_rms_norm::AddRmsNorm;
pub use attention::{Attention, Heads, MAX_HEAD_DIM, MAX_TILES};
pub use attention_backward_delta::AttentionBackwardDelta;
pub use attention_backward_key_value::AttentionBackwardKeyValue;
pub use attention_backward_query::AttentionBackwardQuery;
pub use attention_cached::AttentionCached;
pub use column_sum::{BLOCK_ROWS, ColumnSum};
pub use dpo::Dpo;
pub use dqo::{Dqo, STATISTICS as DQO_STATISTICS};
pub use dro::{Dro, STATISTICS as DRO_STATISTICS};
pub use embedding::Embedding;
pub use embedding_backward::EmbeddingBackward;
pub use gated_mlp::{Activation, GatedMlp};
pub use gated_mlp_backward::GatedMlpBackward;
pub use gather_rows::{GatherRows, NONE};
pub use kto::{Kto, STATISTICS as KTO_STATISTICS};
pub use lambda_return::LambdaReturn;
pub use log_softmax::LogSoftmax;
pub use log_softmax_backward::LogSoftmaxBackward;
pub use mark_step::MarkStep;
pub use matmul::{FEW_ROWS, Operand, OperandMut};
pub use matmul_nn::MatmulNn;
pub use matmul_nt::MatmulNt;
pub use matmul_tn::MatmulTn;
pub use ppo::{Ppo, STATISTICS as PPO_STATISTICS};
pub use rms_norm::RmsNorm;
pub use rms_norm_backward::RmsNormBackward;
pub use rms_norm_backward_weight::RmsNormBackwardWeight;
pub use rope::Rope;
pub use round_bf16::RoundBf16;
pub use sample_token::SampleToken;
pub use scale::Scale;
pub use scatter_rows::ScatterRows;
pub use sequence_sum::SequenceSum;
pub use sft::Sft;
pub use sgd::Sgd;
pub use sum_squares::{BLOCK as SUM_SQUARES_BLOCK, SumSquares};
pub use value_head::ValueHead;
pub use value_head_backward::ValueHeadBackward;

pub(crate) use lambda_return::for_each_return;
pub(crate) use variants::{only, shared};

use crate::device::Call;
use crate::gpu::Signature;

/// Every kernel; a test holds it against the shader files.
pub const ALL: &[&Signature] = &[
    AdamW::SIGNATURE,
    AddBias::SIGNATURE,
    AddRmsNorm::SIGNATURE,
    Attention::SIGNATURE,
    AttentionBackwardDelta::SIGNATURE,
    AttentionBackwardKeyValue::SIGNATURE,
    AttentionBackwardQuery::SIGNATURE,
    AttentionCached::SIGNATURE,
    ColumnSum::SIGNATURE,
    Dpo::SIGNATURE,
    Dqo::SIGNATURE,
    Dro::SIGNATURE,
    Embedding::SIGNATURE,
    EmbeddingBackward::SIGNATURE,
    GatedMlp::SIGNATURE,
    GatedMlpBackward::SIGNATURE,
    GatherRows::SIGNATURE,
    Kto::SIGNATURE,
    LambdaReturn::SIGNATURE,
    LogSoftmax::SIGNATURE,
    LogSoftmaxBackward::SIGNATURE,
    MarkStep::SIGNATURE,
    MatmulNn::SIGNATURE,
    MatmulNt::SIGNATURE,
    MatmulTn::SIGNATURE,
    Ppo::SIGNATURE,
    RmsNorm::SIGNATURE,
    RmsNormBackward::SIGNATURE,
    RmsNormBackwardWeight::SIGNATURE,
    Rope::SIGNATURE,
    RoundBf16::SIGNATURE,
    SampleToken::SIGNATURE,
    Scale::SIGNATURE,
    ScatterRows::SIGNATURE,
    SequenceSum::SIGNATURE,
    Sft::SIGNATURE,
    Sgd::SIGNATURE,
    SumSquares::SIGNATURE,
    ValueHead::SIGNATURE,
    ValueHeadBackward::SIGNATURE,
];
