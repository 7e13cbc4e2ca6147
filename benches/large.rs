//! The large rows of the table, for GPUs: shapes of models of 0.5 and 7 billion weights, tensors that no cache holds.

use super::case::Case;
use super::{
    adamw, adamw_8bit, add_rms_norm, attention, attention_backward_delta, attention_backward_key_value,
    attention_backward_query, attention_cached, embedding, gated_mlp, gated_mlp_backward, log_softmax, matmul,
    rms_norm, rms_norm_backward, rms_norm_backward_weight, rms_norm_gated_linear, rope, sample_token, sgd, sum_squares,
};

type Rows = fn() -> Box<dyn Iterator<Item = Case>>;

macro_rules! large {
    ($($name:ident,)*) => { [$((stringify!($name), || Box::new($name::large()))),*] };
}

/// The kernels that have large rows. Each case is made when its turn comes: together they would fill the memory.
const LARGE: [(&str, Rows); 21] = large![
    adamw,
    adamw_8bit,
    add_rms_norm,
    attention,
    attention_backward_delta,
    attention_backward_key_value,
    attention_backward_query,
    attention_cached,
    embedding,
    gated_mlp,
    gated_mlp_backward,
    log_softmax,
    matmul,
    rms_norm,
    rms_norm_backward,
    rms_norm_backward_weight,
    rms_norm_gated_linear,
    rope,
    sample_token,
    sgd,
    sum_squares,
];

/// The large rows of a kernel, where it has any.
pub fn large_of(kernel: &str) -> impl Iterator<Item = Case> {
    LARGE.into_iter().filter(move |(name, _)| *name == kernel).flat_map(|(_, rows)| rows())
}
