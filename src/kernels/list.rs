//! The kernels, listed once.

/// Calls `callback!` with every kernel, as `file: Call,` in the order of their names. A kernel is a line here,
/// `shaders/FILE.wgsl`, `src/kernels/FILE.rs` (call and twin) and `benches/FILE.rs` (its cases).
#[macro_export]
macro_rules! for_each_kernel {
    ($callback:ident) => {
        $callback! {
            adamw: AdamW,
            add_bias: AddBias,
            add_rms_norm: AddRmsNorm,
            attention: Attention,
            attention_backward_delta: AttentionBackwardDelta,
            attention_backward_key_value: AttentionBackwardKeyValue,
            attention_backward_query: AttentionBackwardQuery,
            attention_cached: AttentionCached,
            attention_combine: AttentionCombine,
            column_sum: ColumnSum,
            dpo: Dpo,
            dqo: Dqo,
            dro: Dro,
            embedding: Embedding,
            embedding_backward: EmbeddingBackward,
            gated_mlp: GatedMlp,
            gated_mlp_backward: GatedMlpBackward,
            gather_rows: GatherRows,
            grouped_linear: GroupedLinear,
            grouped_linear_backward_input: GroupedLinearBackwardInput,
            kto: Kto,
            lambda_return: LambdaReturn,
            log_softmax: LogSoftmax,
            log_softmax_backward: LogSoftmaxBackward,
            mark_step: MarkStep,
            matmul: Matmul,
            ppo: Ppo,
            rms_norm: RmsNorm,
            rms_norm_backward: RmsNormBackward,
            rms_norm_backward_weight: RmsNormBackwardWeight,
            rope: Rope,
            rope_cached: RopeCached,
            round_bf16: RoundBf16,
            sample_token: SampleToken,
            scale: Scale,
            scatter_rows: ScatterRows,
            sequence_sum: SequenceSum,
            sft: Sft,
            sgd: Sgd,
            sum_squares: SumSquares,
            value_head: ValueHead,
            value_head_backward: ValueHeadBackward,
        }
    };
}
