//! A GGUF file's tokenizer, as `tokenizer.json` and `tokenizer_config.json` say it.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::file::GgufFile;
use super::metadata::Keys;
use super::pre_tokenizers::{PRE_TOKENIZERS, PreTokenizer};

/// Kinds of tokens, as llama.cpp numbers them.
pub(super) const NORMAL: u32 = 1;
pub(super) const UNKNOWN: u32 = 2;
pub(super) const CONTROL: u32 = 3;
pub(super) const USER_DEFINED: u32 = 4;
pub(super) const UNUSED: u32 = 5;
pub(super) const BYTE: u32 = 6;

/// The longest token of SentencePiece's in bytes: every cut of each is looked up.
const LONGEST_TOKEN: usize = 512;

/// What SentencePiece writes for a space.
pub(super) const SPACE: &str = "\u{2581}";

impl GgufFile {
    /// The model's `tokenizer.json`; `None` where the file has no tokenizer.
    ///
    /// # Errors
    /// Names the key that is missing, wrong or not supported.
    pub fn tokenizer(&self) -> Result<Option<Value>> {
        let keys = self.keys();
        let kind = keys.text("tokenizer.ggml.model")?.unwrap_or("none");
        let vocabulary = || Vocabulary::of(&keys);
        match kind {
            "none" | "no_vocab" => Ok(None),
            "gpt2" => byte_level(&keys, &vocabulary()?).map(Some),
            "llama" => sentence_piece(&keys, &vocabulary()?).map(Some),
            other => bail!("tokenizer.ggml.model {other:?} is not supported; supported are \"gpt2\" and \"llama\""),
        }
    }

    /// The model's `tokenizer_config.json`: special tokens and the chat template.
    ///
    /// # Errors
    /// Names the key that is wrong.
    pub fn tokenizer_config(&self) -> Result<Map<String, Value>> {
        let keys = self.keys();
        let tokens = keys.texts("tokenizer.ggml.tokens")?.unwrap_or_default();
        let mut config = Map::new();
        for (name, key) in [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")] {
            let key = format!("tokenizer.ggml.{key}_token_id");
            // As llama.cpp does, one that is not in the vocabulary is left out.
            if let Some(token) = keys.size(&key)?.and_then(|id| tokens.get(id)) {
                config.insert(format!("{name}_token"), (*token).into());
            }
        }
        if let Some(template) = keys.text("tokenizer.chat_template")? {
            config.insert("chat_template".to_owned(), template.into());
        }
        Ok(config)
    }
}

/// The tokens and their kinds.
struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    kinds: Vec<u32>,
}

impl<'a> Vocabulary<'a> {
    fn of(keys: &Keys<'a>) -> Result<Self> {
        let tokens = keys.texts("tokenizer.ggml.tokens")?.context("tokenizer.ggml.tokens is missing")?;
        let key = "tokenizer.ggml.token_type";
        let kinds: Vec<u32> = match keys.numbers(key)? {
            Some(kinds) => kinds.iter().map(|&kind| kind as u32).collect(),
            None => vec![NORMAL; tokens.len()],
        };
        let (count, wanted) = (kinds.len(), tokens.len());
        ensure!(count == wanted, "{key} has {count} entries for {wanted} tokens");
        Ok(Self { tokens, kinds })
    }

    /// Every token that is used, by its id.
    fn used(&self) -> impl Iterator<Item = (usize, &'a str, u32)> {
        let all = self.tokens.iter().zip(&self.kinds).enumerate();
        all.map(|(id, (token, kind))| (id, *token, *kind)).filter(|(_, _, kind)| *kind != UNUSED)
    }

    fn ids(&self) -> Map<String, Value> {
        self.used().map(|(id, token, _)| (token.to_owned(), id.into())).collect()
    }

    /// What is found in a text before anything else.
    fn added(&self) -> Vec<Value> {
        let is_added = |kind| matches!(kind, UNKNOWN | CONTROL | USER_DEFINED);
        let added = self.used().filter(|(_, _, kind)| is_added(*kind));
        let added = added.map(|(id, content, kind)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                "special": kind != USER_DEFINED,
            })
        });
        added.collect()
    }

    /// The token that a key names.
    fn named(&self, keys: &Keys, name: &str) -> Result<Option<(usize, &'a str)>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        Ok(keys.size(&key)?.and_then(|id| Some((id, *self.tokens.get(id)?))))
    }

    /// What is put before and after a text.
    fn post_processor(&self, keys: &Keys, adds_bos: bool) -> Result<Value> {
        let mut single = vec![json!({ "Sequence": { "id": "A", "type_id": 0 } })];
        let mut special = Map::new();
        for (name, default) in [("bos", adds_bos), ("eos", false)] {
            let key = format!("tokenizer.ggml.add_{name}_token");
            if !keys.flag(&key)?.unwrap_or(default) {
                continue;
            }
            let (id, token) =
                self.named(keys, name)?.with_context(|| format!("{key} is true and there is no such token"))?;
            let place = if name == "bos" { 0 } else { single.len() };
            single.insert(place, json!({ "SpecialToken": { "id": token, "type_id": 0 } }));
            special.insert(token.to_owned(), json!({ "id": token, "ids": [id], "tokens": [token] }));
        }
        if special.is_empty() {
            return Ok(Value::Null);
        }
        let pair = json!([{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }]);
        Ok(json!({ "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special }))
    }
}

/// BPE over bytes that are written as characters (GPT-2's).
fn byte_level(keys: &Keys, vocabulary: &Vocabulary) -> Result<Value> {
    let pre = pre_tokenizer(keys)?;
    let key = "tokenizer.ggml.merges";
    let merges = keys.texts(key)?.with_context(|| format!("{key} is missing"))?;
    let pair = |merge: &&str| -> Result<Value> {
        let (left, right) = merge.split_once(' ').with_context(|| format!("{key}: {merge:?} is not two parts"))?;
        Ok(json!([left, right]))
    };
    Ok(json!({
        "version": "1.0",
        "added_tokens": vocabulary.added(),
        "normalizer": pre.normalizer(),
        "pre_tokenizer": pre.pre_tokenizer(),
        "post_processor": vocabulary.post_processor(keys, pre.adds_bos)?,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE",
            "ignore_merges": pre.ignores_merges,
            "vocab": vocabulary.ids(),
            "merges": merges.iter().map(pair).collect::<Result<Vec<_>>>()?,
        },
    }))
}

fn pre_tokenizer(keys: &Keys) -> Result<&'static PreTokenizer> {
    let key = "tokenizer.ggml.pre";
    let name = keys.text(key)?.with_context(|| format!("{key} is missing"))?;
    let known = PRE_TOKENIZERS.iter().find(|known| known.names.contains(&name));
    known.with_context(|| {
        let names: Vec<_> = PRE_TOKENIZERS.iter().flat_map(|known| known.names).copied().collect();
        format!("{key} {name:?} is not supported; supported are {}", names.join(", "))
    })
}

/// SentencePiece's BPE over characters, with bytes for what is not in the vocabulary: merges are those pairs that make a token,
/// by its score.
fn sentence_piece(keys: &Keys, vocabulary: &Vocabulary) -> Result<Value> {
    let key = "tokenizer.ggml.scores";
    let scores = keys.numbers(key)?.with_context(|| format!("{key} is missing"))?;
    let (count, wanted) = (scores.len(), vocabulary.tokens.len());
    ensure!(count == wanted, "{key} has {count} entries for {wanted} tokens");
    let longest = vocabulary.tokens.iter().map(|token| token.len()).max().unwrap_or(0);
    ensure!(
        longest <= LONGEST_TOKEN,
        "tokenizer.ggml.tokens has one of {longest} bytes; at most {LONGEST_TOKEN} are supported"
    );
    let adds_space = keys.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let unknown = vocabulary.named(keys, "unknown")?.map(|(_, token)| token);
    Ok(json!({
        "version": "1.0",
        "added_tokens": vocabulary.added(),
        "normalizer": normalizer(adds_space),
        "pre_tokenizer": null,
        "post_processor": vocabulary.post_processor(keys, true)?,
        "decoder": decoder(adds_space),
        "model": {
            "type": "BPE",
            "unk_token": unknown,
            "fuse_unk": true,
            "byte_fallback": vocabulary.kinds.contains(&BYTE),
            "vocab": vocabulary.ids(),
            "merges": merges_by_score(vocabulary, &scores),
        },
    }))
}

/// Spaces are written as [`SPACE`], with one before the text where `adds_space`.
pub(super) fn normalizer(adds_space: bool) -> Value {
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE });
    match adds_space {
        true => json!({ "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": SPACE }, replace] }),
        false => replace,
    }
}

fn decoder(adds_space: bool) -> Value {
    let replace = json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " });
    let mut decoders = vec![replace, json!({ "type": "ByteFallback" }), json!({ "type": "Fuse" })];
    if adds_space {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({ "type": "Sequence", "decoders": decoders })
}

/// Every pair of tokens that makes a token, that of the highest score first.
fn merges_by_score<'a>(vocabulary: &Vocabulary<'a>, scores: &[f64]) -> Vec<[&'a str; 2]> {
    let normal = || vocabulary.used().filter(|(_, _, kind)| *kind == NORMAL);
    let ids: HashMap<&str, usize> = normal().map(|(id, token, _)| (token, id)).collect();
    let tokens: Vec<_> = normal().collect();
    let pairs = tokens.par_iter().flat_map_iter(|&(id, token, _)| {
        let cuts = token.char_indices().map(|(cut, _)| cut).skip(1);
        let ids = &ids;
        cuts.filter_map(move |cut| {
            let (left, right) = token.split_at(cut);
            Some((id, *ids.get(left)?, *ids.get(right)?))
        })
    });
    let mut pairs: Vec<_> = pairs.collect();
    pairs.par_sort_by(|a, b| scores[b.0].total_cmp(&scores[a.0]).then(a.cmp(b)));
    pairs.into_iter().map(|(_, left, right)| [vocabulary.tokens[left], vocabulary.tokens[right]]).collect()
}
