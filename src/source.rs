//! What a model says of itself: the descriptions in a Hugging Face directory, or what a GGUF file says in their place.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::files::{is_gguf, open_file, read_description};
use crate::gguf::GgufFile;

/// What a model directory has beside weights and configuration.
const COMPANIONS: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
];

/// What a file of a model directory says.
pub struct Description {
    pub text: String,
    /// The file, to name it in errors.
    pub place: String,
}

impl Description {
    /// The object that the text is.
    ///
    /// # Errors
    /// Names the place where it is something else.
    pub fn object(&self) -> Result<Map<String, Value>> {
        serde_json::from_str(&self.text).with_context(|| format!("{}: not a JSON object", self.place))
    }
}

/// What `name`, such as `config.json`, says in the directory `model`; or what the GGUF file `model` says in its place. `None` where
/// it says nothing.
///
/// # Errors
/// Names the file, and the key in it, that cannot be read.
pub fn description(model: &Path, name: &str) -> Result<Option<Description>> {
    let place = place_of(model, name);
    let text = if is_gguf(model) {
        let said = said_by(&GgufFile::open(model)?, name);
        said.with_context(|| model.display().to_string())?
    } else {
        let path = model.join(name);
        if path.exists() { Some(read_description(&path)?) } else { None }
    };
    Ok(text.map(|text| Description { text, place }))
}

/// How errors name a description of a model.
pub fn place_of(model: &Path, name: &str) -> String {
    match is_gguf(model) {
        true => format!("{}, as {name}", model.display()),
        false => model.join(name).display().to_string(),
    }
}

fn said_by(file: &GgufFile, name: &str) -> Result<Option<String>> {
    Ok(match name {
        "config.json" => Some(Value::Object(file.configuration()?).to_string()),
        "generation_config.json" => Some(Value::Object(file.generation()?).to_string()),
        "tokenizer.json" => file.tokenizer()?.map(|tokenizer| tokenizer.to_string()),
        "tokenizer_config.json" => Some(Value::Object(file.tokenizer_config()?).to_string()),
        _ => None,
    })
}

/// Writes what a model has for the tokenizer and for generation into another directory: files as they are.
///
/// # Errors
/// Names the file that cannot be read or written.
pub fn copy_companions(model: &Path, dir: &Path) -> Result<()> {
    for name in COMPANIONS {
        let to = dir.join(name);
        let written = || format!("{}: cannot be written", to.display());
        if is_gguf(model) {
            if let Some(said) = description(model, name)? {
                std::fs::write(&to, said.text).with_context(written)?;
            }
            continue;
        }
        let from = model.join(name);
        if from.exists() {
            open_file(&from)?;
            std::fs::copy(&from, &to).with_context(written)?;
        }
    }
    Ok(())
}
