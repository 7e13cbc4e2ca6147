//! The rows of a file, each an object: what both rollouts and problems are read from. The lines of a JSONL file, or the rows of
//! a Parquet file.

#[cfg(not(feature = "parquet"))]
use std::borrow::Cow;
use std::path::Path;
use std::{fmt, str};

use anyhow::{Context, Result, bail, ensure};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::columns::{ColumnReader, Columns};
#[cfg(feature = "parquet")]
use super::parquet_rows::parquet_rows;
use crate::files::{input_name, read_bytes};

/// A line is a row of at most this many bytes: a megabyte of tokens has fewer.
const LONGEST_LINE: usize = 32 << 20;

/// Gives the fields of every row to `parse`, by our names, with the row's number, from 1: of JSON lines that of the line.
/// `known` are the fields that mean something.
///
/// # Errors
/// Names the file, and the line that is not text, is too long, is no object, or that `parse` refuses; the column that is not
/// there; or that there is no row.
pub fn for_each_row(
    path: &Path,
    columns: &Columns,
    known: &[&str],
    mut parse: impl FnMut(Map<String, Value>, usize) -> Result<()>,
) -> Result<()> {
    let mut columns = ColumnReader::new(columns, known)?;
    let bytes = read_bytes(path)?;
    let file = input_name(path);
    let is_parquet = bytes.starts_with(PARQUET);
    let is_named_so = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"));
    ensure!(is_parquet || !is_named_so, "{file}: is not a Parquet file, as its name says: it does not begin with PAR1");
    let rows: Rows = if is_parquet {
        Box::new(parquet_rows(bytes).with_context(|| file.to_string())?)
    } else {
        Box::new(lines(&bytes))
    };
    let (mut any, mut wrong) = (false, None);
    for (number, row) in rows {
        any = true;
        let row = row.map(|row| columns.rename(row));
        if wrong.is_none() {
            let read = row.and_then(|row| parse(row, number));
            wrong = read.err().map(|error| error.context(format!("{file}:{number}")));
        }
        // A column that no row has explains more than the first row that lacks it.
        if wrong.is_some() && columns.are_found() {
            break;
        }
    }
    ensure!(any, "{file}: has no rows");
    columns.end().with_context(|| file.to_string())?;
    wrong.map_or(Ok(()), Err)
}

/// Rows with their numbers.
type Rows<'a> = Box<dyn Iterator<Item = (usize, Result<Map<String, Value>>)> + 'a>;

/// How Parquet files begin, and no JSON line.
const PARQUET: &[u8] = b"PAR1";

#[cfg(not(feature = "parquet"))]
fn parquet_rows(_: Cow<'static, [u8]>) -> Result<Rows<'static>> {
    bail!(
        "is a Parquet file, and this build reads none; build it with --features parquet, or make JSON lines of the file"
    )
}

/// The rows of a JSONL file, by line; blank lines are none.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, Result<Map<String, Value>>)> {
    let row = |(index, line)| {
        let number = index + 1;
        let line = text(line, number);
        let is_blank = line.as_ref().is_ok_and(|line| line.trim().is_empty());
        (!is_blank).then(|| (number, line.and_then(fields)))
    };
    bytes.split(|byte| *byte == b'\n').enumerate().filter_map(row)
}

fn text(line: &[u8], number: usize) -> Result<&str> {
    ensure!(
        line.len() <= LONGEST_LINE,
        "is a line of {} bytes, and a row has at most {LONGEST_LINE}; a row is one JSON object on a line of its own",
        line.len()
    );
    if number == 1 && line.starts_with(b"\xef\xbb\xbf") {
        bail!("begins with a byte order mark; save the file as UTF-8 without one");
    }
    if number == 1 && (line.starts_with(b"\xff\xfe") || line.starts_with(b"\xfe\xff")) {
        bail!("is UTF-16; save the file as UTF-8");
    }
    str::from_utf8(line).map_err(|error| {
        let place = error.valid_up_to();
        anyhow::anyhow!("byte {}: {:#04x} is not UTF-8; save the file as UTF-8", place + 1, line[place])
    })
}

/// A row's fields. One that stands twice is refused: readers differ in which they take.
fn fields(line: &str) -> Result<Map<String, Value>> {
    let Distinct(fields) = serde_json::from_str(line).map_err(|error| json_error(line, &error))?;
    Ok(fields)
}

/// An object whose keys are all different.
struct Distinct(Map<String, Value>);

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Distinct;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Distinct, A::Error> {
                let mut fields = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if fields.contains_key(&name) {
                        return Err(A::Error::custom(format!("{TWICE}{name}")));
                    }
                    fields.insert(name, value);
                }
                Ok(Distinct(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// How an error begins that is about a field, not about JSON.
const TWICE: &str = "twice: ";

/// What is wrong with a line that is not JSON; a NaN or an infinity, which some writers leave in, by its field.
fn json_error(line: &str, error: &serde_json::Error) -> anyhow::Error {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    if let Some(field) = message.strip_prefix(TWICE) {
        return anyhow::anyhow!("field `{}`: stands twice", field.strip_suffix(&position).unwrap_or(field));
    }
    let before = line.get(..error.column().min(line.len())).unwrap_or(line);
    let field = before.rsplit_once("\":").and_then(|(name, _)| name.rsplit_once('"')).map(|(_, name)| name);
    let value = before.rsplit([':', ',', '[']).next().unwrap_or_default().trim();
    let number = ["N", "I", "-I"].iter().any(|start| value.starts_with(start));
    match field {
        Some(field) if number || message.starts_with("number out of range") => {
            anyhow::anyhow!("field `{field}`: is not a finite number")
        }
        _ => anyhow::anyhow!("is not a JSON object: {message}"),
    }
}

/// Refuses a field that is nobody's and is written nearly as one that is looked for: it would be lost in silence. Others are
/// the data set's own.
///
/// # Errors
/// Names both.
pub fn no_slips(fields: &Map<String, Value>, known: &[&str], own: &[&str]) -> Result<()> {
    for name in fields.keys().filter(|name| !known.contains(&name.as_str()) && !own.contains(&name.as_str())) {
        let plain = plain(name);
        let near = |known: &&&str| {
            // Short names are near to too many words.
            let most = if known.len() < 9 { 1 } else { 2 };
            !fields.contains_key(**known) && distance(&plain, &self::plain(known), most) <= most
        };
        if let Some(known) = known.iter().find(near) {
            bail!("field `{name}`: is not known; is it `{known}`? Rename it, or leave it out");
        }
    }
    Ok(())
}

/// A name without what people write differently.
fn plain(name: &str) -> String {
    let name: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    name.replace("our", "or").replace("logprob", "logp")
}

/// Letters to put in, take out or replace between two words (Levenshtein); above `most` it is not exact.
fn distance(a: &str, b: &str, most: usize) -> usize {
    let b: Vec<char> = b.chars().collect();
    if a.chars().count().abs_diff(b.len()) > most {
        return most + 1;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        let cases = [("kitten", "sitting", 3), ("", "ab", 2), ("reward", "rewards", 1), ("same", "same", 0)];
        for (a, b, expected) in cases {
            assert_eq!([distance(a, b, 9), distance(b, a, 9)], [expected; 2], "{a}, {b}");
        }
    }

    #[test]
    fn a_field_that_stands_twice_is_refused() {
        let message = |line| fields(line).unwrap_err().to_string();
        assert_eq!(message(r#"{"a": 1, "b": 2, "a": 1}"#), "field `a`: stands twice");
        assert_eq!(message(r#"{"x at line 1": 1, "x at line 1": 1}"#), "field `x at line 1`: stands twice");
        assert!(fields(r#"{"a": {"b": 1}, "b": 2}"#).is_ok());
    }
}
