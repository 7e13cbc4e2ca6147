//! A conversation: what was said, and the prompt that it makes of what is said next.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::data::{ModelLimits, Text, Tokenizer};

/// What was said so far.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// What the system message says, where there is one.
    system: Option<String>,
    turns: Vec<Turn>,
}

/// A message and the answer to it.
#[derive(Clone, Debug)]
struct Turn {
    said: String,
    answer: String,
}

/// A conversation's prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationPrompt {
    pub prompt_ids: Vec<u32>,
    /// Turns that were forgotten for it: the oldest ones.
    pub forgotten: usize,
}

impl Conversation {
    /// One that begins, with what its system message says; without a text there is none.
    pub fn new(system: &str) -> Self {
        let mut conversation = Self { system: None, turns: Vec::new() };
        conversation.set_system(system);
        conversation
    }

    /// Sets what the system message says, from the next prompt on; without a text there is none.
    pub fn set_system(&mut self, text: &str) {
        self.system = Some(text.to_owned()).filter(|text| !text.is_empty());
    }

    /// Forgets all turns; the system message stays.
    pub fn reset(&mut self) {
        self.turns.clear();
    }

    /// What the model is asked by a message, in at most `most` tokens: the oldest turns are forgotten where it has more.
    ///
    /// # Errors
    /// Where the message alone has more, the chat template refuses it, or there is no tokenizer; nothing is forgotten then.
    pub fn prompt(
        &mut self,
        said: &str,
        tokenizer: &Tokenizer,
        limits: ModelLimits,
        most: usize,
    ) -> Result<ConversationPrompt> {
        let mut tokens = 0;
        for forgotten in 0..=self.turns.len() {
            let prompt_ids = tokenizer.prompt(&Text::Messages(self.messages(forgotten, said)))?;
            tokens = prompt_ids.len();
            if tokens <= most {
                limits.check_prompt(&prompt_ids, || "the message".to_owned())?;
                self.turns.drain(..forgotten);
                return Ok(ConversationPrompt { prompt_ids, forgotten });
            }
        }
        bail!("the message has {tokens} tokens, with what the chat template adds, and there is room for {most}")
    }

    /// Adds a turn.
    pub fn add(&mut self, said: String, answer: String) {
        self.turns.push(Turn { said, answer });
    }

    /// The messages without the oldest turns, so many, and with one more.
    fn messages(&self, forgotten: usize, said: &str) -> Vec<Value> {
        let message = |role: &str, content: &str| json!({ "role": role, "content": content });
        let mut messages: Vec<Value> = self.system.iter().map(|system| message("system", system)).collect();
        for Turn { said, answer } in &self.turns[forgotten..] {
            messages.extend([message("user", said), message("assistant", answer)]);
        }
        messages.push(message("user", said));
        messages
    }
}
