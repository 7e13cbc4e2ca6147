//! What an output is made with: settings, and what is in the files that it is made from; kept with it, as TOML.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::file::write_file;
use super::input_files::{Digests, InputFiles};

/// Settings and inputs.
pub struct Record<'a> {
    settings: toml::Table,
    inputs: &'a InputFiles,
    digests: Digests,
}

/// A setting that is another, as messages have it.
struct Difference {
    option: String,
    before: String,
    now: String,
}

/// The key of the inputs' digests, in a file that has settings beside them.
pub const INPUTS: &str = "inputs";

impl<'a> Record<'a> {
    /// Of inputs as they are now. Reads all of them.
    ///
    /// # Errors
    /// Where one cannot be read.
    pub fn new(settings: toml::Table, inputs: &'a InputFiles) -> Result<Self> {
        Ok(Self { settings, inputs, digests: inputs.digests()? })
    }

    /// Writes it.
    ///
    /// # Errors
    /// Names the file where it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_file(path, self.text()?.as_bytes())
    }

    /// As it is written.
    ///
    /// # Errors
    /// Where a value has no form in TOML.
    pub fn text(&self) -> Result<String> {
        let mut table = self.settings.clone();
        table.insert(INPUTS.to_owned(), toml::Table::try_from(&self.digests)?.into());
        Ok(toml::to_string(&table)?)
    }

    /// Holds it against another's, as its [`Record::text`] has it, but for the settings that `may_differ`; `other` names that one.
    ///
    /// # Errors
    /// Names the option that is another, or whose files are.
    pub fn agree(&self, text: &str, may_differ: &[&str], other: &str) -> Result<()> {
        let mut table: toml::Table = text.parse()?;
        let digests: Digests = table.remove(INPUTS).map(toml::Value::try_into).transpose()?.unwrap_or_default();
        if let Some(Difference { option, before: theirs, now: ours }) =
            self.difference(&table, |name| may_differ.contains(&name))
        {
            bail!("{option} is {ours} here and {theirs} for {other}; give all the same options");
        }
        for name in digests.keys().chain(self.digests.keys()) {
            ensure!(
                digests.get(name) == self.digests.get(name),
                "{name} is not what it is for {other}; give all the same files"
            );
        }
        Ok(())
    }

    /// Holds it against the one that is kept in `path`; the settings that `may_change` are let be. `beginner` is what began
    /// with that one, as messages have it: `the run`.
    ///
    /// # Errors
    /// Names the option or the file that is another.
    pub fn check(&self, path: &Path, may_change: impl Fn(&str) -> bool, beginner: &str) -> Result<()> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let damaged = || format!("{}: is damaged", path.display());
        let mut before: toml::Table = text.parse().with_context(damaged)?;
        let inputs = before.remove(INPUTS);
        if let Some(Difference { option, before, now }) = self.difference(&before, may_change) {
            bail!("--resume: {option} is {before} in {} and {now} now; {beginner} goes on as it began", path.display());
        }
        // Earlier versions kept none.
        let Some(inputs) = inputs else { return Ok(()) };
        self.inputs.compare(&inputs.try_into().with_context(damaged)?, &self.digests, beginner)
    }

    /// The first setting that is another `before`, but for those that `may_change`.
    fn difference(&self, before: &toml::Table, may_change: impl Fn(&str) -> bool) -> Option<Difference> {
        let text = |value: Option<&toml::Value>| value.map_or("unset".to_owned(), toml::Value::to_string);
        let names = before.keys().chain(self.settings.keys()).filter(|name| !may_change(name));
        let mut differing = names.filter(|name| before.get(*name) != self.settings.get(*name));
        differing.next().map(|name| Difference {
            option: format!("--{}", name.replace('_', "-")),
            before: text(before.get(name)),
            now: text(self.settings.get(name)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_must_be_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (data, model, kept) =
            (dir.path().join("rows.jsonl"), dir.path().join("model"), dir.path().join("kept.toml"));
        std::fs::create_dir(&model).unwrap();
        let weights = model.join("model.safetensors");
        std::fs::write(&data, "1").unwrap();
        std::fs::write(&weights, "2").unwrap();
        std::fs::write(model.join("README.md"), "3").unwrap();
        let inputs = || InputFiles::default().with_file("--data", &data).with_model("--model", &model).unwrap();
        let settings: toml::Table = "seed = 1".parse().unwrap();
        Record::new(settings.clone(), &inputs()).unwrap().write(&kept).unwrap();
        let check = || {
            let inputs = inputs();
            let checked = Record::new(settings.clone(), &inputs).unwrap().check(&kept, |_| false, "the run");
            checked.map_err(|error| error.to_string().replace(&dir.path().display().to_string(), "."))
        };
        check().unwrap();
        std::fs::write(model.join("README.md"), "4").unwrap();
        check().unwrap();

        let expected = |what: &str| {
            Err(format!("--resume: {what} since the run began; put it back as it was, or begin another one"))
        };
        std::fs::write(&data, "0").unwrap();
        assert_eq!(check(), expected("./rows.jsonl (--data) has changed"));
        std::fs::write(&data, "1").unwrap();
        std::fs::write(&weights, "0").unwrap();
        assert_eq!(check(), expected("./model/model.safetensors (--model) has changed"));
        std::fs::remove_file(&weights).unwrap();
        assert_eq!(check(), expected("--model model.safetensors is gone"));
        std::fs::write(&weights, "2").unwrap();
        std::fs::write(model.join("tokenizer.json"), "5").unwrap();
        assert_eq!(check(), expected("./model/tokenizer.json (--model) is new"));
    }
}
