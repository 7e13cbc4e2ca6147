//! What a model computes: the tokens it knows and how many of them. Ids are checked against it here, on the host, once,
//! where they come from; kernels take them as they are.

use anyhow::{Context, Result, bail, ensure};

/// What prompts and responses must keep to, to be computed by a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelLimits {
    /// Token ids are below it.
    pub vocab_size: usize,
    /// Tokens of a prompt and its response at most.
    pub context_length: usize,
}

impl ModelLimits {
    /// Checks that the model has an embedding for each of these tokens.
    ///
    /// # Errors
    /// Begins with `place` of the first one that has none, and ends with `question`, a guess at the cause.
    pub fn check_ids(&self, ids: &[u32], place: impl Fn(usize) -> String, question: &str) -> Result<()> {
        match ids.iter().position(|&id| id as usize >= self.vocab_size) {
            None => Ok(()),
            Some(index) => bail!(
                "{}: {} is beyond the model's vocabulary of {}; {question}",
                place(index),
                ids[index],
                self.vocab_size
            ),
        }
    }

    /// Checks that the model computes a prompt and has room for a response to it.
    ///
    /// # Errors
    /// Begins with `place` where it does not.
    pub fn check_prompt(&self, prompt_ids: &[u32], place: impl FnOnce() -> String) -> Result<()> {
        let check = || {
            let (tokens, context) = (prompt_ids.len(), self.context_length);
            ensure!(tokens > 0, "the prompt has no tokens");
            ensure!(
                tokens < context,
                "the prompt has {tokens} tokens, and the model's context of {context} leaves no room for a response"
            );
            self.check_ids(
                prompt_ids,
                |index| format!("the prompt's token ids[{index}]"),
                "is tokenizer.json another model's?",
            )
        };
        check().with_context(place)
    }
}
