//! What a model says of itself: the descriptions in a Hugging Face directory, or what a GGUF file says in their place.

use std::path::{Path, PathBuf};

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

/// A model's descriptions.
pub struct Descriptions {
    model: PathBuf,
    /// Where it is a GGUF file.
    gguf: Option<GgufFile>,
}

impl Descriptions {
    /// The model that they are of.
    pub fn model(&self) -> &Path {
        &self.model
    }

    /// Those in the directory `model`, or of the GGUF file `model`.
    ///
    /// # Errors
    /// Where the file cannot be read; a directory is not looked at yet.
    pub fn open(model: &Path) -> Result<Self> {
        let gguf = is_gguf(model).then(|| GgufFile::open(model)).transpose()?;
        Ok(Self { model: model.to_owned(), gguf })
    }

    /// What the file `name`, such as `config.json`, says, or a GGUF file in its place; `None` where it says nothing.
    ///
    /// # Errors
    /// Names the file, and the key in it, that cannot be read.
    pub fn description(&self, name: &str) -> Result<Option<Description>> {
        let text = match &self.gguf {
            Some(file) => said_by(file, name).with_context(|| self.model.display().to_string())?,
            None => {
                let path = self.model.join(name);
                if path.exists() { Some(read_description(&path)?) } else { None }
            }
        };
        Ok(text.map(|text| Description { text, place: place_of(&self.model, name) }))
    }

    /// As [`Descriptions::description`], the object that it is: empty where there is none.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn object(&self, name: &str) -> Result<Map<String, Value>> {
        self.description(name)?.map_or_else(|| Ok(Map::new()), |said| said.object())
    }

    /// Writes what the model has for the tokenizer and for generation into another directory: files as they are.
    ///
    /// # Errors
    /// Names the file that cannot be read or written.
    pub fn copy_companions(&self, dir: &Path) -> Result<()> {
        for name in COMPANIONS {
            let to = dir.join(name);
            let written = || format!("{}: cannot be written", to.display());
            let from = self.model.join(name);
            if self.gguf.is_some() {
                if let Some(said) = self.description(name)? {
                    std::fs::write(&to, said.text).with_context(written)?;
                }
            } else if from.exists() {
                open_file(&from)?;
                std::fs::copy(&from, &to).with_context(written)?;
            }
        }
        Ok(())
    }
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
