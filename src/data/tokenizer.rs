//! A model's tokenizer, chat template and end token.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde_json::{Map, Value};
use tokenizers::{DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};

use super::rows::Text;
use super::template::{ChatTemplate, token_text};
use super::token_ids::token_ids;

/// Turns text into token ids as the model expects them.
pub struct Tokenizer {
    dir: PathBuf,
    /// `None` where the directory has no tokenizer: then every row must bring its ids.
    inner: Option<tokenizers::Tokenizer>,
    template: ChatTemplate,
    /// What a finished response ends with.
    end_token: Option<u32>,
    /// What ends a response that is being written.
    stop_ids: Vec<u32>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, `tokenizer_config.json` and `generation_config.json` of a model directory; each may be
    /// missing. `eos_token_ids` are the end tokens of its `config.json`, for what the others do not name.
    ///
    /// # Errors
    /// Names the file that is not valid.
    pub fn read(dir: &Path, eos_token_ids: &[u32]) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let inner = if path.exists() {
            let inner = tokenizers::Tokenizer::from_file(&path);
            Some(inner.map_err(|error| anyhow!("{}: not a tokenizer: {error}", path.display()))?)
        } else {
            None
        };
        let tokenizer_config = read_object(&dir.join("tokenizer_config.json"))?;
        let template = ChatTemplate::read(dir, &tokenizer_config)?;

        // The tokenizer's end token is the one that ends a turn; the others name it where it is silent.
        let text = tokenizer_config.get("eos_token").and_then(token_text);
        let by_text =
            text.as_ref().and_then(Value::as_str).zip(inner.as_ref()).and_then(|(text, inner)| inner.token_to_id(text));
        let generation_path = dir.join("generation_config.json");
        let generation = token_ids(&read_object(&generation_path)?, "eos_token_id");
        let generation = generation.with_context(|| generation_path.display().to_string())?;
        let end_token = by_text.or(generation.first().copied()).or(eos_token_ids.first().copied());
        let named = if generation.is_empty() { eos_token_ids } else { &generation };
        let stop_ids: BTreeSet<u32> = named.iter().copied().chain(by_text).collect();
        Ok(Self { dir: dir.to_owned(), inner, template, end_token, stop_ids: stop_ids.into_iter().collect() })
    }

    /// The tokens that end a response: those that `generation_config.json` names (or else `config.json`), and the
    /// tokenizer's own end token.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// The text of a response, without special tokens.
    ///
    /// # Errors
    /// Where there is no tokenizer.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let inner = self.inner.as_ref().with_context(|| format!("{}: has no tokenizer.json", self.dir.display()))?;
        inner.decode(ids, true).map_err(|error| anyhow!("the tokens are no text: {error}"))
    }

    /// The ids of a prompt. Messages go through the chat template; text is taken as it is, with the tokens that the
    /// tokenizer itself adds (such as a begin token).
    ///
    /// # Errors
    /// Where the template fails or there is no tokenizer.
    pub fn prompt(&self, prompt: &Text) -> Result<Vec<u32>> {
        match prompt {
            Text::Ids(ids) => Ok(ids.clone()),
            Text::Plain(text) => self.encode(text, true),
            // The template writes the special tokens itself.
            Text::Messages(messages) => self.encode(&self.template.render(messages)?, false),
        }
    }

    /// The ids of a response. Text gets an end token, unless it was cut off.
    ///
    /// # Errors
    /// Where there is no tokenizer or no end token.
    pub fn completion(&self, completion: &Text, truncated: bool) -> Result<Vec<u32>> {
        let text = match completion {
            Text::Ids(ids) => return Ok(ids.clone()),
            Text::Plain(text) => text,
            Text::Messages(_) => unreachable!("a completion is one text"),
        };
        let mut ids = self.encode(text, false)?;
        if !truncated {
            ids.push(self.end_token.with_context(|| {
                format!(
                    "{}: neither tokenizer_config.json nor generation_config.json nor config.json names an end token; \
                     give completion_ids",
                    self.dir.display()
                )
            })?);
        }
        Ok(ids)
    }

    /// The text that each token of a response adds, without special tokens. A character that several tokens make is added
    /// by the last of them.
    ///
    /// # Errors
    /// Where there is no tokenizer.
    pub fn pieces(&self, ids: &[u32]) -> Result<Vec<String>> {
        let mut stream = self.stream()?;
        ids.iter().map(|&id| stream.push(id)).collect()
    }

    /// A response's text as it grows.
    ///
    /// # Errors
    /// Where there is no tokenizer.
    pub fn stream(&self) -> Result<TextStream<'_>> {
        let inner = self.inner.as_ref().with_context(|| format!("{}: has no tokenizer.json", self.dir.display()))?;
        Ok(TextStream(inner.decode_stream(true)))
    }

    fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let inner = self.inner.as_ref().with_context(|| {
            format!("{}: has no tokenizer.json; give prompt_ids and completion_ids", self.dir.display())
        })?;
        let encoding =
            inner.encode(text, add_special_tokens).map_err(|error| anyhow!("the text does not tokenize: {error}"))?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// See [`Tokenizer::stream`].
pub struct TextStream<'a>(
    tokenizers::DecodeStream<
        'a,
        ModelWrapper,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    >,
);

impl TextStream<'_> {
    /// The text that a token adds.
    ///
    /// # Errors
    /// Where the tokens are no text.
    pub fn push(&mut self, id: u32) -> Result<String> {
        let added = self.0.step(id).map_err(|error| anyhow!("the tokens are no text: {error}"))?;
        Ok(added.unwrap_or_default())
    }
}

fn read_object(path: &Path) -> Result<Map<String, Value>> {
    if !path.exists() {
        return Ok(Map::new());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}: not a JSON object", path.display()))
}
