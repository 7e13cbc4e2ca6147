//! Token ids in the JSON files of a model directory.

use anyhow::{Context, Result};
use serde_json::{Map, Value};

/// A field that holds a token id, several, or none.
///
/// # Errors
/// Where it holds something else.
pub fn token_ids(json: &Map<String, Value>, name: &str) -> Result<Vec<u32>> {
    let id = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.with_context(|| format!("{name} {value} is not a token id"))
    };
    match json.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}
