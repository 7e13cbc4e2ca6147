//! An output of rows that are written as they finish: a run that ends in the middle goes on where it was, and no row is
//! doubled or lost.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::files::{Fresh, InputFiles, Record, is_stream, open_locked, with_suffix, write_file};
use crate::ranks::Ranks;

/// The output, open to be added to.
pub struct RowsInProgress {
    path: PathBuf,
    /// `None` where it is standard output, which gets the rows when they are in order.
    file: Option<OutputFile>,
    /// The rows that are whole, by their place in the finished file: as they were written, as numbers that are read and
    /// written again may end in other digits.
    done: BTreeMap<Vec<u64>, String>,
    ranks: Ranks,
    /// On a rank that is not the first: the rows that the first one has not got yet.
    kept: Vec<(Vec<u64>, String)>,
}

/// A file of rows.
struct OutputFile {
    /// Before the file, which is locked: what is taken away is so while no other process may begin.
    fresh: Fresh,
    file: File,
    length: u64,
}

impl RowsInProgress {
    /// Begins `path`, or with `resume` goes on with it. `keys` are the fields that tell a row's place: whole numbers, in the
    /// order that the finished file is sorted by. Settings and inputs are kept beside it, as `path` + `.toml`. The first of the
    /// ranks writes it; all must have the same settings and inputs.
    ///
    /// # Errors
    /// Where there is an output already (or none to resume), its settings or inputs are others, or a row in it is damaged.
    pub fn open(
        path: &Path,
        resume: bool,
        settings: &impl Serialize,
        inputs: &InputFiles,
        keys: &[&str],
        ranks: &Ranks,
    ) -> Result<Self> {
        let record = Record::new(toml::Table::try_from(settings)?, inputs)?;
        ranks.agree(&record)?;
        let mut rows =
            Self { path: path.to_owned(), file: None, done: BTreeMap::new(), ranks: ranks.clone(), kept: Vec::new() };
        let places = ranks.of_first(|| {
            rows.open_file(resume, &record, keys)?;
            Ok(rows.done.keys().cloned().collect::<Vec<_>>())
        })?;
        if !ranks.is_first() {
            rows.done = places.into_iter().map(|place| (place, String::new())).collect();
        }
        Ok(rows)
    }

    fn open_file(&mut self, resume: bool, record: &Record, keys: &[&str]) -> Result<()> {
        let path = &self.path;
        if is_stream(path) {
            ensure!(!resume, "--resume: standard output cannot be gone on with; name a file as --output");
            return Ok(());
        }
        let kept = with_suffix(path, ".toml");
        let exists =
            || format!("{}: exists already; go on with it by --resume, or choose another --output", path.display());
        let is_new = !path.exists();
        ensure!(resume || is_new, exists());
        // From here on no other process writes it; before, one may have.
        let mut file = open_locked(path, path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(|| format!("{}: cannot be read", path.display()))?;
        ensure!(resume || bytes.is_empty(), exists());
        // Until there is a row, all is as good as not there.
        let fresh = if bytes.is_empty() { vec![path.clone(), kept.clone()] } else { Vec::new() };
        let fresh = match std::fs::read_to_string(&kept) {
            // A run that was killed before it had written its settings has no row either.
            Err(error) if error.kind() == ErrorKind::NotFound && bytes.is_empty() => {
                let fresh = Fresh::new(fresh);
                record.write(&kept)?;
                fresh
            }
            Ok(before) if before == record.text()? => Fresh::new(fresh),
            Ok(_) if is_new => {
                drop(Fresh::new(vec![path.clone()]));
                bail!("{}: exists already, and the settings would go there; choose another --output", kept.display())
            }
            _ => {
                record.check(&kept, |name| MAY_CHANGE.contains(&name), "the output")?;
                Fresh::default()
            }
        };
        let mut length = 0;
        for (number, line) in whole_lines(&bytes).enumerate() {
            let (place, row) = parse(line, keys).with_context(|| format!("{}:{}", path.display(), number + 1))?;
            self.done.insert(place, row.to_owned());
            length += line.len() as u64 + 1;
        }
        // What a kill left of a row is dropped.
        cut(&mut file, length).with_context(|| format!("{}: cannot be written", path.display()))?;
        self.file = Some(OutputFile { fresh, file, length });
        Ok(())
    }

    /// Whether the row of this place is there.
    pub fn has(&self, place: &[u64]) -> bool {
        self.done.contains_key(place)
    }

    /// The rows that are there, in order.
    pub fn rows(&self) -> impl Iterator<Item = Value> {
        // Each was read once, or is written by us.
        self.done.values().map(|row| serde_json::from_str(row).unwrap_or_default())
    }

    /// Adds a row; of a rank that is not the first it is written with the next [`RowsInProgress::collect`].
    ///
    /// # Errors
    /// Where it cannot be written; what is there of it is taken away, and the rows before it are kept.
    pub fn add(&mut self, place: Vec<u64>, row: &Value) -> Result<()> {
        let line = row.to_string();
        if self.ranks.is_first() {
            return self.write(place, line);
        }
        self.kept.push((place, line));
        Ok(())
    }

    /// Writes what the other ranks have added; `visit` gets each row. All ranks call it together.
    ///
    /// # Errors
    /// As [`RowsInProgress::add`].
    pub fn collect(&mut self, mut visit: impl FnMut(&Value)) -> Result<()> {
        let of_ranks = self.ranks.gather(std::mem::take(&mut self.kept))?;
        if !self.ranks.is_first() {
            return Ok(());
        }
        for (place, line) in of_ranks.concat() {
            visit(&serde_json::from_str(&line)?);
            self.write(place, line)?;
        }
        Ok(())
    }

    fn write(&mut self, place: Vec<u64>, mut line: String) -> Result<()> {
        line.push('\n');
        if let Some(OutputFile { fresh, file, length }) = &mut self.file {
            let written = file.write_all(line.as_bytes());
            if written.is_err() {
                // The error to tell is that of the write; a torn row is found again by the next run.
                let _ = cut(file, *length);
            }
            written
                .with_context(|| format!("{}: cannot be written; the finished rows are kept", self.path.display()))?;
            fresh.keep();
            *length += line.len() as u64;
        }
        line.pop();
        self.done.insert(place, line);
        Ok(())
    }

    /// Ends the output: puts the rows in order where `all` are there, else leaves them to a run that goes on; standard
    /// output gets those that there are.
    ///
    /// # Errors
    /// Where it cannot be written; a file is as it was then.
    pub fn end(self, all: bool) -> Result<()> {
        if !self.ranks.is_first() {
            return Ok(());
        }
        let text: String = self.done.values().flat_map(|row| [row, "\n"]).collect();
        let lock = match self.file {
            Some(_) if !all => return Ok(()),
            Some(OutputFile { mut fresh, file, .. }) => {
                fresh.keep();
                // To the end: another process would put them in order by the same way. Windows replaces no open file.
                (!cfg!(windows)).then_some(file)
            }
            None => None,
        };
        let written = write_file(&self.path, text.as_bytes());
        drop(lock);
        written
    }
}

/// Settings that do not change what is written.
const MAY_CHANGE: [&str; 3] = ["output", "batch_size", "device"];

/// Goes back to the end of what is whole.
fn cut(file: &mut File, length: u64) -> std::io::Result<()> {
    file.set_len(length)?;
    file.seek(SeekFrom::Start(length)).map(|_| ())
}

/// The lines that have their end.
fn whole_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    bytes[..end].split_inclusive(|byte| *byte == b'\n').map(|line| &line[..line.len() - 1])
}

fn parse<'a>(line: &'a [u8], keys: &[&str]) -> Result<(Vec<u64>, &'a str)> {
    let line = std::str::from_utf8(line).context("is damaged")?;
    let row: Value = serde_json::from_str(line).context("is damaged")?;
    let key = |key: &&str| {
        row[*key].as_u64().with_context(|| format!("field `{key}`: is missing; was it written by another verb?"))
    };
    let place = keys.iter().map(key).collect::<Result<_>>()?;
    Ok((place, line))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(seed: u64) -> toml::Table {
        [("seed".to_owned(), toml::Value::from(seed as i64))].into_iter().collect()
    }

    fn row(problem: u64, sample: u64) -> Value {
        json!({ "text": "a\nb", "problem": problem, "sample": sample })
    }

    #[test]
    fn an_output_goes_on_where_it_was_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        let open = |resume, seed| {
            RowsInProgress::open(
                &path,
                resume,
                &settings(seed),
                &InputFiles::default(),
                &["problem", "sample"],
                &Ranks::alone(),
            )
        };
        let mut rows = open(false, 1).unwrap();
        rows.add(vec![2, 0], &row(2, 0)).unwrap();
        rows.add(vec![1, 1], &row(1, 1)).unwrap();
        drop(rows);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text += "{\"text\": \"half a ro";
        std::fs::write(&path, &text).unwrap();

        let mut rows = open(true, 1).unwrap();
        assert!(rows.has(&[2, 0]) && rows.has(&[1, 1]) && !rows.has(&[1, 0]));
        rows.add(vec![1, 0], &row(1, 0)).unwrap();
        rows.end(true).unwrap();
        let expected = format!("{}\n{}\n{}\n", row(1, 0), row(1, 1), row(2, 0));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        let open = |resume, seed| {
            let opened = RowsInProgress::open(
                &path,
                resume,
                &settings(seed),
                &InputFiles::default(),
                &["problem"],
                &Ranks::alone(),
            );
            opened.map_err(|error| format!("{error:#}").replace(&path.display().to_string(), "rows.jsonl"))
        };
        open(true, 1).unwrap().add(vec![0], &row(0, 0)).unwrap();
        let exists = "rows.jsonl: exists already; go on with it by --resume, or choose another --output";
        assert_eq!(open(false, 1).err().unwrap(), exists);
        let other = "--resume: --seed is 1 in rows.jsonl.toml and 2 now; the output goes on as it began";
        assert_eq!(open(true, 2).err().unwrap(), other);
        std::fs::write(&path, "{\"x\": 1}\n").unwrap();
        let missing = "rows.jsonl:1: field `problem`: is missing; was it written by another verb?";
        assert_eq!(open(true, 1).err().unwrap(), missing);
    }
}
