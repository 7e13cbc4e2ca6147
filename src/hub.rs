//! Model names: a directory, or an id that is fetched from the Hugging Face hub.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
#[cfg(feature = "hub")]
use hf_hub::api::sync::ApiBuilder;

use crate::files::is_gguf;

/// Files of a model repository that are of use here, beside the weights.
fn describes(name: &str) -> bool {
    !name.contains('/') && (name.ends_with(".json") || name.ends_with(".jinja"))
}

fn is_weights(name: &str) -> bool {
    !name.contains('/') && name.ends_with(".safetensors")
}

/// Where a model is: `name` itself, a directory or a GGUF file, or where the hub's files of that id are kept (`HF_HOME`,
/// `HF_ENDPOINT` and a token are taken from where `huggingface_hub` takes them).
///
/// # Errors
/// Where there is no such directory and the id cannot be fetched.
pub fn model_dir(name: &str) -> Result<PathBuf> {
    find(name, |file| describes(file) || is_weights(file))
}

/// As [`model_dir`], of a model whose weights are not needed: they are not fetched.
///
/// # Errors
/// As [`model_dir`].
pub fn description_dir(name: &str) -> Result<PathBuf> {
    find(name, describes)
}

fn find(name: &str, is_wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let path = Path::new(name);
    // Of a GGUF file its reader says what is wrong.
    if path.is_dir() || is_gguf(path) {
        return Ok(path.to_owned());
    }
    let parts: Vec<_> = name.split('/').collect();
    let is_id = parts.len() == 2 && parts.iter().all(|part| !part.is_empty() && !part.starts_with('.'));
    if !is_id {
        bail!("{name}: there is no such model directory, and it is no id of the form OWNER/NAME either");
    }
    fetch(name, is_wanted)
        .with_context(|| format!("{name}: there is no such directory, and the hub does not give a model of this id"))
}

#[cfg(feature = "hub")]
fn fetch(id: &str, is_wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let api = ApiBuilder::from_env().with_progress(true).build()?;
    let repository = api.model(id.to_owned());
    let info = repository.info()?;
    let mut dir = None;
    for file in info.siblings.iter().filter(|file| is_wanted(&file.rfilename)) {
        let path = repository.get(&file.rfilename)?;
        dir = path.parent().map(Path::to_owned);
    }
    dir.context("the repository has no configuration and no safetensors")
}

#[cfg(not(feature = "hub"))]
fn fetch(_: &str, _: impl Fn(&str) -> bool) -> Result<PathBuf> {
    bail!("this program was built without the feature `hub`, which fetches models")
}
