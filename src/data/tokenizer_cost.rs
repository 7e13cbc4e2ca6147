//! What the steps of a tokenizer.json may make of a text: some would fill the memory, and some cut it at random.

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::Value;

/// What is looked at of a tokenizer.json; its vocabulary is not.
#[derive(Deserialize)]
struct Steps {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: Option<Model>,
}

#[derive(Deserialize)]
struct Model {
    dropout: Option<f64>,
}

/// A text may become this many times as long; steps of real tokenizers make it 3 to 10 times as long.
const MOST_GROWTH: f64 = 256.0;

/// Checks the steps of a tokenizer, of which this is the tokenizer.json.
///
/// # Errors
/// Names the field whose step is not supported.
pub fn check_steps(text: &str) -> Result<()> {
    let Steps { normalizer, post_processor, decoder, model } = serde_json::from_str(text)?;
    for (name, growth) in [
        ("normalizer", growth_of_replacements(&normalizer, "normalizers")),
        ("post_processor", growth_of_templates(&post_processor)),
        ("decoder", growth_of_replacements(&decoder, "decoders")),
    ] {
        ensure!(
            growth <= MOST_GROWTH,
            "`{name}` may make a text {growth:.0} times as long; at most {MOST_GROWTH} is supported"
        );
    }
    let dropout = model.and_then(|model| model.dropout).unwrap_or(0.0);
    ensure!(
        dropout == 0.0,
        "`model.dropout` is {dropout}: it cuts text at random, and no run would repeat; set it to null"
    );
    Ok(())
}

/// How much longer a step makes a text in bytes, or the steps of a sequence together.
fn growth_of_replacements(step: &Value, members: &str) -> f64 {
    match step["type"].as_str() {
        Some("Sequence") => elements(&step[members]).map(|member| growth_of_replacements(member, members)).product(),
        Some("Replace") => {
            let content = step["content"].as_str().map_or(0, str::len) as f64;
            match step["pattern"]["String"].as_str() {
                Some(pattern) if !pattern.is_empty() => f64::max(content / pattern.len() as f64, 1.0),
                // An expression may match nothing before every character, and leave the character.
                _ => 1.0 + content,
            }
        }
        _ => 1.0,
    }
}

/// How often the templates of a post-processor repeat the tokens of one text.
fn growth_of_templates(step: &Value) -> f64 {
    match step["type"].as_str() {
        Some("Sequence") => elements(&step["processors"]).map(growth_of_templates).product(),
        Some("TemplateProcessing") => {
            let pieces = elements(&step["single"]).filter(|piece| piece.get("Sequence").is_some());
            f64::max(pieces.count() as f64, 1.0)
        }
        _ => 1.0,
    }
}

fn elements(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(tokenizer: Value) -> Result<()> {
        check_steps(&tokenizer.to_string())
    }

    #[test]
    fn steps_that_fill_the_memory_are_refused_and_those_of_real_tokenizers_are_not() {
        let replace =
            |pattern: Value, content: &str| json!({ "type": "Replace", "pattern": pattern, "content": content });
        let grown = |count: usize| vec![replace(json!({ "String": "1" }), "11"); count];
        let sequence = |steps: Vec<Value>| json!({ "type": "Sequence", "normalizers": steps });
        // As Llama's, T5's and DeBERTa's are.
        let llama =
            sequence(vec![json!({ "type": "Prepend", "prepend": "▁" }), replace(json!({ "String": " " }), "▁")]);
        let spaces = sequence(vec![json!({ "type": "NFKD" }), replace(json!({ "Regex": " {2,}" }), " ")]);
        for normalizer in [Value::Null, llama, spaces, sequence(grown(8))] {
            check(json!({ "normalizer": normalizer })).unwrap();
        }
        let nested = sequence(vec![sequence(grown(5)), sequence(grown(5))]);
        for normalizer in [sequence(grown(9)), nested, replace(json!({ "Regex": "" }), &"1".repeat(300))] {
            let error = check(json!({ "normalizer": normalizer })).unwrap_err().to_string();
            assert!(error.contains("`normalizer`"), "{error}");
        }
        let decoder = json!({ "type": "Sequence", "decoders": grown(9) });
        assert!(check(json!({ "decoder": decoder })).is_err());
        let piece = json!({ "Sequence": { "id": "A", "type_id": 0 } });
        let template = |count: usize| json!({ "type": "TemplateProcessing", "single": vec![piece.clone(); count] });
        check(json!({ "post_processor": template(1) })).unwrap();
        let twice = json!({ "type": "Sequence", "processors": [template(20), template(20)] });
        assert!(check(json!({ "post_processor": twice })).is_err());
    }

    #[test]
    fn dropout_is_refused() {
        for (dropout, is_allowed) in [(json!(null), true), (json!(0.0), true), (json!(0.1), false)] {
            assert_eq!(check(json!({ "model": { "dropout": dropout } })).is_ok(), is_allowed);
        }
    }
}
