//! A model's tokenizer, chat template and end token.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Once;

use anyhow::{Context, Result, anyhow};
use tokenizers::{DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};

use super::guard::caught;
use super::rows::Text;
use super::template::{ChatTemplate, token_text};
use super::token_ids::token_ids;
use super::tokenizer_cost::check_steps;
use crate::source::{Description, Descriptions, place_of};

/// Turns text into token ids as the model expects them.
pub struct Tokenizer {
    dir: PathBuf,
    /// `DIR/tokenizer.json`, to name it in errors.
    place: String,
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
        let said = Descriptions::open(dir)?;
        let inner = said.description(FILE)?.map(|said| read_tokenizer(&said)).transpose()?;
        let tokenizer_config = said.object("tokenizer_config.json")?;
        let template = ChatTemplate::read(&said, &tokenizer_config)?;

        // The tokenizer's end token is the one that ends a turn; the others name it where it is silent.
        let text = token_text(&tokenizer_config, "eos_token")?;
        let by_text = text.zip(inner.as_ref()).and_then(|(text, inner)| inner.token_to_id(text));
        let file = "generation_config.json";
        let generation = token_ids(&said.object(file)?, "eos_token_id").with_context(|| place_of(dir, file))?;
        let end_token = by_text.or(generation.first().copied()).or(eos_token_ids.first().copied());
        let named = if generation.is_empty() { eos_token_ids } else { &generation };
        let stop_ids: BTreeSet<u32> = named.iter().copied().chain(by_text).collect();
        Ok(Self {
            dir: dir.to_owned(),
            place: place_of(dir, FILE),
            inner,
            template,
            end_token,
            stop_ids: stop_ids.into_iter().collect(),
        })
    }

    /// The tokens that end a response: those that `generation_config.json` names (or else `config.json`), and the
    /// tokenizer's own end token.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// The same, the one that a finished response gets first.
    pub fn end_tokens(&self) -> Vec<u32> {
        let others = self.stop_ids.iter().filter(|id| Some(**id) != self.end_token);
        self.end_token.iter().chain(others).copied().collect()
    }

    /// The text of a response, without special tokens.
    ///
    /// # Errors
    /// Where there is no tokenizer.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let inner = self.inner()?;
        guarded(&self.place, NO_TEXT, || inner.decode(ids, true))
    }

    fn inner(&self) -> Result<&tokenizers::Tokenizer> {
        self.inner.as_ref().with_context(|| format!("{}: has no {FILE}", self.dir.display()))
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
        Ok(TextStream { place: &self.place, stream: self.inner()?.decode_stream(true) })
    }

    fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let inner = self.inner.as_ref().with_context(|| {
            format!("{}: has no tokenizer.json; give prompt_ids and completion_ids", self.dir.display())
        })?;
        let encoding = guarded(&self.place, "the text does not tokenize", || inner.encode(text, add_special_tokens))?;
        Ok(encoding.get_ids().to_vec())
    }
}

const FILE: &str = "tokenizer.json";
const NO_TEXT: &str = "the tokens are no text";

fn read_tokenizer(said: &Description) -> Result<tokenizers::Tokenizer> {
    bound_searches();
    let Description { text, place } = said;
    let mut inner: tokenizers::Tokenizer = guarded(place, "not a tokenizer", || text.parse())?;
    check_steps(text).with_context(|| place.clone())?;
    // As transformers does: they are what was set when the file was written, and cut or fill what is encoded.
    inner.with_padding(None);
    let whole = inner.with_truncation(None).map(|_| ());
    whole.map_err(|error| anyhow!("{place}: not a tokenizer: {error}"))?;
    Ok(inner)
}

/// Bounds how often a regular expression of a tokenizer goes back in one search: some would for years.
fn bound_searches() {
    const RETRIES: std::ffi::c_ulong = 50_000_000;
    static BOUND: Once = Once::new();
    // SAFETY: it stores a number that searches read when they begin, and no tokenizer has been made yet.
    BOUND.call_once(|| unsafe {
        onig_sys::onig_set_retry_limit_in_search(RETRIES);
    });
}

/// What the crate's code makes of a file or a text; where it panics too, the error names the file.
fn guarded<T>(place: &str, failure: &str, run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    let result = caught(run).and_then(|result| result.map_err(|error| anyhow!("{error}")));
    result.with_context(|| format!("{place}: {failure}"))
}

/// See [`Tokenizer::stream`].
pub struct TextStream<'a> {
    place: &'a str,
    stream: tokenizers::DecodeStream<
        'a,
        ModelWrapper,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    >,
}

impl TextStream<'_> {
    /// The text that a token adds.
    ///
    /// # Errors
    /// Where the tokens are no text.
    pub fn push(&mut self, id: u32) -> Result<String> {
        let added = guarded(self.place, NO_TEXT, || self.stream.step(id))?;
        Ok(added.unwrap_or_default())
    }
}
