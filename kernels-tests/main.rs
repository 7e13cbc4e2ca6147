//! The tests: a case per kernel, the shaders without a GPU, gradients, model, training, command line.

mod bad_input;
mod command;
mod gradients;
mod harness;
mod memory;
mod model;
mod resume;
mod shards;
mod training;
mod verbs;

mod adamw;
mod add_bias;
mod add_rms_norm;
mod attention;
mod attention_backward_delta;
mod attention_backward_key_value;
mod attention_backward_query;
mod column_sum;
mod dqo;
mod embedding;
mod embedding_backward;
mod gated_mlp;
mod gated_mlp_backward;
mod gather_rows;
mod lambda_return;
mod log_softmax;
mod log_softmax_backward;
mod mark_step;
mod matmul_nn;
mod matmul_nt;
mod matmul_tn;
mod rms_norm;
mod rms_norm_backward;
mod rms_norm_backward_weight;
mod rope;
mod round_bf16;
mod sequence_sum;
mod sft;
mod sgd;
mod sum_squares;
mod value_head;
mod value_head_backward;

mod shaders;
mod uniformity;
