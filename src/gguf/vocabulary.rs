//! A Hugging Face tokenizer as a GGUF file's metadata.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use super::pre_tokenizers::pre_tokenizer_of;
use super::tokenizer::{BYTE, CONTROL, NORMAL, SPACE, UNKNOWN, UNUSED, USER_DEFINED};
use super::writer::Entries;

/// What is to be written of a tokenizer.
pub struct NewVocabulary<'a> {
    /// `tokenizer.json`.
    pub tokenizer: &'a Value,
    /// `tokenizer_config.json`.
    pub config: &'a Map<String, Value>,
    /// Rows of the embedding.
    pub size: usize,
    /// What the tokenizer puts around a text.
    pub around: Around,
    /// What ends a response: the tokenizer's own first.
    pub end_tokens: &'a [u32],
    pub chat_template: Option<&'a str>,
}

/// Whether a text begins and ends with a special token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Around {
    pub bos: bool,
    pub eos: bool,
}

impl Entries {
    /// Says that there is no tokenizer.
    pub fn no_vocabulary(&mut self) {
        self.text("tokenizer.ggml.model", "no_vocab");
    }

    /// Says what a tokenizer does.
    ///
    /// # Errors
    /// Where GGUF has no words for it.
    pub fn vocabulary(&mut self, new: &NewVocabulary) -> Result<()> {
        let model = &new.tokenizer["model"];
        ensure!(
            model["type"].as_str().is_none_or(|kind| kind == "BPE"),
            "its model is not BPE, and GGUF files have no other here"
        );
        let merges = merges(&model["merges"])?;
        let tokens = Tokens::of(new)?;
        if let Some(adds_space) = sentence_piece(new.tokenizer) {
            self.text("tokenizer.ggml.model", "llama");
            self.text("tokenizer.ggml.pre", "default");
            self.flag("tokenizer.ggml.add_space_prefix", adds_space);
            self.numbers("tokenizer.ggml.scores", scores(&tokens, &merges)?.into_iter());
        } else {
            let known = pre_tokenizer_of(new.tokenizer);
            let known = known.context("its normalizer and pre_tokenizer are not among those that GGUF files name")?;
            self.text("tokenizer.ggml.model", "gpt2");
            self.text("tokenizer.ggml.pre", known.names[0]);
            self.texts("tokenizer.ggml.merges", merges.iter().map(|[left, right]| format!("{left} {right}")));
        }
        self.special_tokens(new, &tokens)?;
        self.kinds("tokenizer.ggml.token_type", tokens.kinds.iter().map(|&kind| kind as i32));
        self.texts("tokenizer.ggml.tokens", tokens.texts.into_iter());
        if let Some(template) = new.chat_template {
            self.text("tokenizer.chat_template", template);
        }
        Ok(())
    }

    fn special_tokens(&mut self, new: &NewVocabulary, tokens: &Tokens) -> Result<()> {
        self.flag("tokenizer.ggml.add_bos_token", new.around.bos);
        self.flag("tokenizer.ggml.add_eos_token", new.around.eos);
        for (name, key) in [("bos_token", "bos"), ("unk_token", "unknown"), ("pad_token", "padding")] {
            let token = &new.config.get(name).unwrap_or(&Value::Null);
            let text = token.as_str().or_else(|| token.get("content")?.as_str());
            if let Some(id) = text.and_then(|text| tokens.ids.get(text)) {
                self.size(&format!("tokenizer.ggml.{key}_token_id"), *id);
            }
        }
        for (key, &id) in ["eos", "eot", "eom"].into_iter().zip(new.end_tokens) {
            self.size(&format!("tokenizer.ggml.{key}_token_id"), id as usize);
        }
        Ok(())
    }
}

/// All tokens of a vocabulary, by id.
struct Tokens {
    texts: Vec<String>,
    kinds: Vec<u32>,
    /// By the text in `tokenizer.json`.
    ids: HashMap<String, usize>,
}

impl Tokens {
    fn of(new: &NewVocabulary) -> Result<Self> {
        let mut tokens = Self {
            // As llama.cpp's converter fills up what has no text.
            texts: (0..new.size).map(|id| format!("[PAD{id}]")).collect(),
            kinds: vec![UNUSED; new.size],
            ids: HashMap::new(),
        };
        let model = &new.tokenizer["model"];
        let bytes = model["byte_fallback"].as_bool().unwrap_or(false);
        let vocabulary = model["vocab"].as_object().context("model.vocab is not an object")?;
        for (text, id) in vocabulary {
            let is_unknown = model["unk_token"].as_str() == Some(text);
            let kind = if is_unknown {
                UNKNOWN
            } else if bytes && is_byte(text) {
                BYTE
            } else {
                NORMAL
            };
            tokens.add(text, id, kind)?;
        }
        for added in new.tokenizer["added_tokens"].as_array().map_or(&[][..], Vec::as_slice) {
            let text = added["content"].as_str().context("an added token has no content")?;
            let is_special = added["special"].as_bool().unwrap_or(false);
            let known = tokens.ids.get(text).map(|&id| tokens.kinds[id]);
            let kind = match known {
                Some(UNKNOWN) => UNKNOWN,
                _ if is_special => CONTROL,
                _ => USER_DEFINED,
            };
            tokens.add(text, &added["id"], kind)?;
            if kind == USER_DEFINED {
                // llama.cpp looks for it in the text itself.
                let id = tokens.ids[text];
                tokens.texts[id] = text.replace(SPACE, " ");
            }
        }
        Ok(tokens)
    }

    fn add(&mut self, text: &str, id: &Value, kind: u32) -> Result<()> {
        let number = id.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|&id| id < self.texts.len());
        let id = number.with_context(|| {
            format!("the id {id} of the token {text:?} is not below {}, the rows of the embedding", self.texts.len())
        })?;
        (self.texts[id], self.kinds[id]) = (text.to_owned(), kind);
        self.ids.insert(text.to_owned(), id);
        Ok(())
    }
}

/// Whether a token is a byte's, as SentencePiece writes them.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// Pairs, written as such or with a space between.
fn merges(merges: &Value) -> Result<Vec<[String; 2]>> {
    let pair = |merge: &Value| {
        let parts = match merge {
            Value::String(text) => text.split_once(' '),
            _ => merge[0].as_str().zip(merge[1].as_str()),
        };
        let (left, right) = parts.with_context(|| format!("the merge {merge} is not a pair"))?;
        Ok([left.to_owned(), right.to_owned()])
    };
    merges.as_array().context("model.merges is not a list")?.iter().map(pair).collect()
}

/// Whether a tokenizer is SentencePiece's BPE as Hugging Face writes it, and then whether it puts a space before a text.
fn sentence_piece(tokenizer: &Value) -> Option<bool> {
    let splits = &tokenizer["pre_tokenizer"];
    let adds_space = match splits["type"].as_str() {
        Some("Metaspace") if tokenizer["normalizer"].is_null() => {
            return Some(splits["prepend_scheme"].as_str().is_none_or(|scheme| scheme != "never"));
        }
        // Of spaces, which the normalizer leaves none of.
        Some("Split") if splits["pattern"]["String"] == " " => false,
        None => false,
        Some(_) => return None,
    };
    let normalizer = &tokenizer["normalizer"];
    let replaces =
        |step: &Value| step["type"] == "Replace" && step["pattern"]["String"] == " " && step["content"] == SPACE;
    let prepends = |step: &Value| step["type"] == "Prepend" && step["prepend"] == SPACE;
    match normalizer["normalizers"].as_array().map(Vec::as_slice) {
        None if replaces(normalizer) => Some(adds_space),
        Some([only]) if replaces(only) => Some(adds_space),
        Some([first, second]) if prepends(first) && replaces(second) => Some(true),
        _ => None,
    }
}

/// Scores by which SentencePiece merges in the order of `merges`: the place of a token's first merge, less than that of any before.
fn scores(tokens: &Tokens, merges: &[[String; 2]]) -> Result<Vec<f32>> {
    let mut scores: Vec<f32> = (0..tokens.texts.len()).map(|id| -((merges.len() + id) as f32)).collect();
    let mut done: HashMap<usize, usize> = HashMap::new();
    let mut last = None;
    for (place, [left, right]) in merges.iter().enumerate() {
        let made = format!("{left}{right}");
        let id = *tokens
            .ids
            .get(&made)
            .with_context(|| format!("the merge of {left:?} and {right:?} is not in the vocabulary"))?;
        if last == Some(id) {
            continue;
        }
        if let Some(first) = done.insert(id, place) {
            bail!("merges {first} and {place} make {made:?} and others stand between, which no score of a token says");
        }
        scores[id] = -(place as f32);
        last = Some(id);
    }
    Ok(scores)
}
