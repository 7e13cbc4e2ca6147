//! The fields of a JSON object that describes a model.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

/// An object's fields.
pub(super) struct Fields<'a>(pub &'a Map<String, Value>);

impl Fields<'_> {
    /// Nothing where it is absent or null.
    ///
    /// # Errors
    /// Names it where it is of another type.
    pub fn optional<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let parsed = serde_json::from_value(value.clone());
                parsed.map(Some).with_context(|| format!("{name} {value} is not what this field holds"))
            }
        }
    }

    /// As [`Fields::optional`], of one that must be there.
    ///
    /// # Errors
    /// Names it.
    pub fn required<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        self.optional(name)?.with_context(|| format!("{name} is missing"))
    }

    /// A size, which is not 0.
    ///
    /// # Errors
    /// Names it.
    pub fn size(&self, name: &str) -> Result<usize> {
        let size: usize = self.required(name)?;
        ensure!(size > 0, "{name} is 0");
        Ok(size)
    }
}
