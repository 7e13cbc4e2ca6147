//! How text is split before byte-level BPE merges what is left: what `tokenizer.ggml.pre` names, as `tokenizer.json` says it.

use serde_json::{Value, json};

/// A way to split text.
pub(super) struct PreTokenizer {
    /// What `tokenizer.ggml.pre` calls it; the first is what is written.
    pub names: &'static [&'static str],
    split: Split,
    /// Text is composed (NFC) first.
    composes: bool,
    /// A piece that is a token is taken whole.
    pub ignores_merges: bool,
    /// Whether a begin token comes first where the file is silent.
    pub adds_bos: bool,
}

enum Split {
    /// GPT-2's, which the byte level has built in.
    Gpt2,
    /// Digit by digit, then as GPT-2.
    DigitsThenGpt2,
    Pattern(&'static str),
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const PLAIN: PreTokenizer =
    PreTokenizer { names: &["gpt-2"], split: Split::Gpt2, composes: false, ignores_merges: false, adds_bos: false };

/// Those that are known.
pub(super) const PRE_TOKENIZERS: [PreTokenizer; 6] = [
    PLAIN,
    PreTokenizer { names: &["smollm"], split: Split::DigitsThenGpt2, ..PLAIN },
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3"],
        split: Split::Pattern(LLAMA3),
        ignores_merges: true,
        adds_bos: true,
        ..PLAIN
    },
    PreTokenizer { names: &["smaug-bpe"], split: Split::Pattern(LLAMA3), ..PLAIN },
    PreTokenizer { names: &["qwen2", "deepseek-r1-qwen"], split: Split::Pattern(QWEN2), composes: true, ..PLAIN },
    PreTokenizer { names: &["tekken"], split: Split::Pattern(TEKKEN), ignores_merges: true, adds_bos: true, ..PLAIN },
];

impl PreTokenizer {
    /// The `normalizer` of `tokenizer.json`.
    pub fn normalizer(&self) -> Value {
        if self.composes { json!({ "type": "NFC" }) } else { Value::Null }
    }

    /// The `pre_tokenizer` of `tokenizer.json`.
    pub fn pre_tokenizer(&self) -> Value {
        let byte_level = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
        let sequence = |first: Value, second: Value| json!({ "type": "Sequence", "pretokenizers": [first, second] });
        match self.split {
            Split::Gpt2 => byte_level(true),
            Split::DigitsThenGpt2 => sequence(json!({ "type": "Digits", "individual_digits": true }), byte_level(true)),
            Split::Pattern(pattern) => {
                let pattern = json!({ "Regex": pattern });
                let split = json!({ "type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false });
                sequence(split, byte_level(false))
            }
        }
    }
}

/// The one that a `tokenizer.json` has.
pub(super) fn pre_tokenizer_of(tokenizer: &Value) -> Option<&'static PreTokenizer> {
    let ignores_merges = tokenizer["model"]["ignore_merges"].as_bool().unwrap_or(false);
    // llama.cpp composes nothing.
    let composes = match tokenizer["normalizer"]["type"].as_str() {
        None => false,
        Some("NFC") => true,
        Some(_) => return None,
    };
    let steps = steps(&tokenizer["pre_tokenizer"])?;
    let is_it = |known: &&PreTokenizer| {
        (known.composes || !composes)
            && known.ignores_merges == ignores_merges
            && self::steps(&known.pre_tokenizer()).as_ref() == Some(&steps)
    };
    PRE_TOKENIZERS.iter().find(is_it)
}

/// What a `pre_tokenizer` does, step by step, with what it leaves out filled in; `None` where it is none of these.
fn steps(pre_tokenizer: &Value) -> Option<Vec<Value>> {
    let flag = |name: &str, default: bool| pre_tokenizer[name].as_bool().unwrap_or(default);
    Some(match pre_tokenizer["type"].as_str()? {
        "Sequence" => {
            let steps: Option<Vec<_>> = pre_tokenizer["pretokenizers"].as_array()?.iter().map(steps).collect();
            steps?.concat()
        }
        "Digits" if flag("individual_digits", false) => vec!["digits".into()],
        "ByteLevel" if !flag("add_prefix_space", true) => vec![json!({ "splits": flag("use_regex", true) })],
        "Split" if pre_tokenizer["behavior"] == "Isolated" && !flag("invert", false) => {
            vec![pre_tokenizer["pattern"]["Regex"].as_str()?.into()]
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_known_again() {
        for known in &PRE_TOKENIZERS {
            let tokenizer = json!({
                "normalizer": known.normalizer(),
                "pre_tokenizer": known.pre_tokenizer(),
                "model": { "ignore_merges": known.ignores_merges },
            });
            assert_eq!(pre_tokenizer_of(&tokenizer).map(|found| found.names), Some(known.names));
        }
        let spaces = json!({ "normalizer": null, "pre_tokenizer": { "type": "Whitespace" }, "model": {} });
        assert!(pre_tokenizer_of(&spaces).is_none());
    }
}
