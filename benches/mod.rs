//! Every kernel on made-up data: `dqo-wgpu bench` times these cases, the tests check them.

pub mod case;
pub mod decode;
pub mod limits;
pub mod serial_return;
pub mod step;
pub mod table;
pub mod timing;

pub mod adamw;
pub mod add_bias;
pub mod add_rms_norm;
pub mod attention;
pub mod attention_backward_delta;
pub mod attention_backward_key_value;
pub mod attention_backward_query;
pub mod attention_cached;
pub mod column_sum;
pub mod dpo;
pub mod dqo;
pub mod dro;
pub mod embedding;
pub mod embedding_backward;
pub mod gated_mlp;
pub mod gated_mlp_backward;
pub mod gather_rows;
pub mod kto;
pub mod lambda_return;
pub mod log_softmax;
pub mod log_softmax_backward;
pub mod mark_step;
pub mod matmul_nn;
pub mod matmul_nt;
pub mod matmul_tn;
pub mod ppo;
pub mod rms_norm;
pub mod rms_norm_backward;
pub mod rms_norm_backward_weight;
pub mod rope;
pub mod round_bf16;
pub mod sample_token;
pub mod scale;
pub mod scatter_rows;
pub mod sequence_sum;
pub mod sft;
pub mod sgd;
pub mod sum_squares;
pub mod value_head;
pub mod value_head_backward;

use case::Case;

/// The rows of every kernel, in the order of [`crate::kernels::ALL`], and of what one of them is held against.
pub fn cases() -> Vec<Case> {
    let cases = [
        adamw::bench,
        add_bias::bench,
        add_rms_norm::bench,
        attention::bench,
        attention_backward_delta::bench,
        attention_backward_key_value::bench,
        attention_backward_query::bench,
        attention_cached::bench,
        column_sum::bench,
        dpo::bench,
        dqo::bench,
        dro::bench,
        embedding::bench,
        embedding_backward::bench,
        gated_mlp::bench,
        gated_mlp_backward::bench,
        gather_rows::bench,
        kto::bench,
        lambda_return::bench,
        serial_return::bench,
        log_softmax::bench,
        log_softmax_backward::bench,
        mark_step::bench,
        matmul_nn::bench,
        matmul_nt::bench,
        matmul_tn::bench,
        ppo::bench,
        rms_norm::bench,
        rms_norm_backward::bench,
        rms_norm_backward_weight::bench,
        rope::bench,
        round_bf16::bench,
        sample_token::bench,
        scale::bench,
        scatter_rows::bench,
        sequence_sum::bench,
        sft::bench,
        sgd::bench,
        sum_squares::bench,
        value_head::bench,
        value_head_backward::bench,
    ];
    cases.iter().flat_map(|cases| cases()).collect()
}
