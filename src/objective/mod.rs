//! The methods, and the seam between them and everything else: (log-probs, values, batch) -> (their gradients, statistics).
//!
//! A method is a file here, a kernel, and a line in the list below. The model, the LM head, the optimizer and the training
//! loop know none.

mod method;
mod mismatched;
mod moments;
mod options;
pub mod range;
mod seam;
mod sigmoid;

pub use method::{About, Method, MethodOptions, defaults, overlay};
pub use options::{ReferenceOptions, Truncated, TruncatedOptions, ValueNetwork, ValueOptions};
pub use seam::{
    Estimates, Metrics, Objective, Online, Probes, RoundSizes, Scored, Seam, StepTotals, TrainsOn, ValueSeam,
};

/// Declares the methods: `FILE: STRUCT`, by the name that `--method` has for them.
macro_rules! methods {
    ($( $file:ident: $options:ident, )*) => {
        $( pub mod $file; )*
        $( pub use $file::$options; )*

        $(
            impl Default for $options {
                /// As the command line has them.
                fn default() -> Self {
                    defaults()
                }
            }
        )*

        /// Every method.
        pub static METHODS: &[Method] = &[ $( Method::of::<$options>(stringify!($file)), )* ];
    };
}

methods! {
    dqo: Dqo,
    dro: Dro,
    dpo: Dpo,
    kto: Kto,
    a2po: A2po,
    grpo: Grpo,
    sft: Sft,
    rs: Rs,
    ppo: Ppo,
}
