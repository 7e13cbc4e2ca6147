//! The metadata of a GGUF file, by key.

use anyhow::{Context, Result, bail, ensure};
use gguf_rs_lib::format::metadata::{Metadata, MetadataValue};

/// A file's metadata; errors name the key.
pub(super) struct Keys<'a>(pub &'a Metadata);

impl<'a> Keys<'a> {
    /// The value of this key, as `convert` has it.
    fn optional<T>(
        &self,
        key: &str,
        convert: impl Fn(&'a MetadataValue) -> Option<T>,
        what: &str,
    ) -> Result<Option<T>> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        let converted = convert(value).with_context(|| format!("{key} is not {what}"))?;
        Ok(Some(converted))
    }

    /// A text.
    ///
    /// # Errors
    /// Names the key where its value is something else; so below.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.optional(key, MetadataValue::as_str, "text")
    }

    /// A whole number that is not below 0.
    pub fn size(&self, key: &str) -> Result<Option<usize>> {
        self.optional(key, size, "a whole number")
    }

    /// As [`Keys::size`], of a key that must be there.
    pub fn required_size(&self, key: &str) -> Result<usize> {
        self.size(key)?.with_context(|| format!("{key} is missing"))
    }

    /// A finite number.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.optional(key, |value| number(value).filter(|number| number.is_finite()), "a number")
    }

    /// True or false.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.optional(key, MetadataValue::as_bool, "true or false")
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        self.list(key, MetadataValue::as_str, "text")
    }

    /// A list of numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.list(key, number, "a number")
    }

    fn list<T>(
        &self,
        key: &str,
        convert: impl Fn(&'a MetadataValue) -> Option<T>,
        what: &str,
    ) -> Result<Option<Vec<T>>> {
        match self.0.get(key) {
            None => Ok(None),
            Some(MetadataValue::Array(list)) => {
                let of = |(i, value)| convert(value).with_context(|| format!("{key}: entry {i} is not {what}"));
                list.values.iter().enumerate().map(of).collect::<Result<_>>().map(Some)
            }
            Some(_) => bail!("{key} is not a list"),
        }
    }

    /// Refuses what is not among the keys that are understood.
    ///
    /// # Errors
    /// Names the first.
    pub fn refuse_unknown(&self, prefix: &str, understood: &[&str]) -> Result<()> {
        let mut unknown: Vec<_> = self.0.keys().filter_map(|key| key.strip_prefix(prefix)).collect();
        unknown.retain(|key| !understood.contains(key));
        unknown.sort_unstable();
        if let Some(key) = unknown.first() {
            bail!("{prefix}{key} is not supported; use a model without it");
        }
        Ok(())
    }

    /// Refuses a value other than the one that changes nothing.
    ///
    /// # Errors
    /// Names the key.
    pub fn refuse_unless(&self, key: &str, harmless: f64) -> Result<()> {
        let value = self.number(key)?.unwrap_or(harmless);
        ensure!(value == harmless, "{key} {value} is not supported; only {harmless} is");
        Ok(())
    }
}

fn size(value: &MetadataValue) -> Option<usize> {
    let of_signed = || value.as_i64().and_then(|number| u64::try_from(number).ok());
    usize::try_from(value.as_u64().or_else(of_signed)?).ok()
}

/// An f32 is the shortest decimal that is rounded to it: 1e-6, not 9.99999997e-7.
fn number(value: &MetadataValue) -> Option<f64> {
    let whole = || value.as_i64().map(|number| number as f64).or(value.as_u64().map(|number| number as f64));
    match value {
        MetadataValue::F32(number) => number.to_string().parse().ok(),
        _ => value.as_f64().or_else(whole),
    }
}
