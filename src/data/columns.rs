//! What a data set calls the fields of a row, where it is not what they are called here.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The option of every verb that reads rows; by default all fields are called as here.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns {
    /// What --data calls its fields, where not as here: prompt=question,completion=response
    #[arg(long, value_name = "OURS=THEIRS,...")]
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<Names>,
}

/// Names of fields, ours and theirs: `prompt=question,completion=response`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Names(Vec<Column>);

/// A field.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    ours: String,
    theirs: String,
}

impl Columns {
    fn names(&self) -> &[Column] {
        self.columns.as_ref().map_or(&[], |names| &names.0)
    }
}

impl FromStr for Names {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let column = |pair: &str| {
            let names = pair.split_once('=').map(|(ours, theirs)| (ours.trim(), theirs.trim()));
            let names = names.filter(|(ours, theirs)| !ours.is_empty() && !theirs.is_empty());
            let (ours, theirs) = names.with_context(|| {
                format!("`{pair}` is not OURS=THEIRS, such as prompt=question; several are separated by commas")
            })?;
            Ok(Column { ours: ours.to_owned(), theirs: theirs.to_owned() })
        };
        let columns = text.split(',').map(column).collect::<Result<Vec<_>>>()?;
        for (index, Column { ours, theirs }) in columns.iter().enumerate() {
            let before = &columns[..index];
            ensure!(before.iter().all(|other| other.ours != *ours), "`{ours}` stands twice; a field is one column");
            ensure!(before.iter().all(|other| other.theirs != *theirs), "the column `{theirs}` stands twice");
        }
        Ok(Self(columns))
    }
}

impl TryFrom<String> for Names {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Names> for String {
    fn from(names: Names) -> Self {
        names.to_string()
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (index, Column { ours, theirs }) in self.0.iter().enumerate() {
            write!(f, "{}{ours}={theirs}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// The columns of a file while its rows are read.
pub(super) struct ColumnReader<'a> {
    columns: &'a [Column],
    /// Whether a row had each.
    found: Vec<bool>,
    /// What the first row has.
    first_row: Option<Vec<String>>,
}

impl<'a> ColumnReader<'a> {
    /// Of a file whose fields that mean something are `known`.
    ///
    /// # Errors
    /// Names the field that means nothing there.
    pub fn new(columns: &'a Columns, known: &[&str]) -> Result<Self> {
        let columns = columns.names();
        for Column { ours, .. } in columns {
            ensure!(
                known.contains(&ours.as_str()),
                "--columns: `{ours}` is no field that is read here; there are {}",
                known.join(", ")
            );
        }
        Ok(Self { columns, found: vec![false; columns.len()], first_row: None })
    }

    /// A row by our names, in its own order. What it calls so itself is another thing, and is left out.
    pub fn rename(&mut self, row: Map<String, Value>) -> Map<String, Value> {
        if self.first_row.is_none() {
            self.first_row = Some(row.keys().cloned().collect());
        }
        let mut renamed = Map::new();
        for (name, value) in row {
            match self.columns.iter().position(|column| column.theirs == name) {
                Some(index) => {
                    self.found[index] = true;
                    renamed.insert(self.columns[index].ours.clone(), value);
                }
                None if self.columns.iter().any(|column| column.ours == name) => {}
                None => drop(renamed.insert(name, value)),
            }
        }
        renamed
    }

    /// Whether every column was there by now.
    pub fn are_found(&self) -> bool {
        self.found.iter().all(|found| *found)
    }

    /// Checks, after the last row, that every column was there.
    ///
    /// # Errors
    /// Names the one that was not, and those that the first row has.
    pub fn end(self) -> Result<()> {
        let missing = self.columns.iter().zip(&self.found).find(|(_, found)| !**found);
        let Some((Column { ours, theirs }, _)) = missing else { return Ok(()) };
        let Some(first_row) = self.first_row else { return Ok(()) };
        let has = first_row.join(", ");
        bail!("no row has a column `{theirs}` (--columns {ours}={theirs}); the first row has {has}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn renamed(columns: &str, row: Value) -> String {
        let columns = Columns { columns: Some(columns.parse().unwrap()) };
        let mut reader = ColumnReader::new(&columns, &["prompt", "chosen", "rejected"]).unwrap();
        let Value::Object(row) = row else { unreachable!("a row is an object") };
        let renamed = reader.rename(row);
        reader.end().unwrap();
        Value::Object(renamed).to_string()
    }

    #[test]
    fn fields_keep_their_order_and_may_change_places() {
        let row = json!({"id": 1, "question": "q", "prompt": "p", "x": 2});
        assert_eq!(renamed("prompt=question", row), r#"{"id":1,"prompt":"q","x":2}"#);
        let row = json!({"chosen": "a", "rejected": "b"});
        assert_eq!(renamed("chosen=rejected, rejected=chosen", row), r#"{"rejected":"a","chosen":"b"}"#);
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        let message = |text: &str| text.parse::<Names>().unwrap_err().to_string();
        let form = "is not OURS=THEIRS, such as prompt=question; several are separated by commas";
        for text in ["", "prompt", "=a", "prompt=", "prompt=a,"] {
            assert!(message(text).ends_with(form), "{text}");
        }
        assert_eq!(message("prompt=a,prompt=b"), "`prompt` stands twice; a field is one column");
        assert_eq!(message("prompt=a,completion=a"), "the column `a` stands twice");
        let columns: Names = "prompt = a , completion=b".parse().unwrap();
        assert_eq!(columns.to_string(), "prompt=a,completion=b");
    }
}
