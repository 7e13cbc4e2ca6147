//! The rows of a Parquet file, as JSON has them.

use std::borrow::Cow;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use serde_json::{Map, Number, Value};

use super::guard::caught;

/// The rows of a file, from 1. After one that cannot be read there are no more.
///
/// # Errors
/// Where the file is damaged.
pub fn parquet_rows(bytes: Cow<'static, [u8]>) -> Result<impl Iterator<Item = (usize, Result<Map<String, Value>>)>> {
    let bytes = match bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    let open = || SerializedFileReader::new(bytes).map(|reader| RowIter::from_file_into(Box::new(reader)));
    let rows = caught(open).and_then(|opened| opened.map_err(plain));
    let mut rows = Some(rows.context("is not a Parquet file that can be read")?);
    let next = move || {
        let read = caught(|| rows.as_mut().and_then(Iterator::next)).map(|row| row.map(|row| row.map_err(plain)));
        let row = match read {
            Ok(None) => return None,
            Ok(Some(row)) => row,
            Err(panic) => Err(panic),
        };
        if row.is_err() {
            rows = None;
        }
        Some(row.context("cannot be read").and_then(fields))
    };
    Ok(std::iter::from_fn(next).enumerate().map(|(index, row)| (index + 1, row)))
}

/// What is wrong, in a line.
fn plain(error: ParquetError) -> anyhow::Error {
    let message = error.to_string();
    match message.split_once("Disabled feature at compile time: ") {
        Some((_, codec)) => {
            anyhow::anyhow!("is compressed with {codec}, which is not read; write it with snappy or with none")
        }
        None => anyhow::anyhow!("{}", message.split_whitespace().collect::<Vec<_>>().join(" ")),
    }
}

fn fields(row: Row) -> Result<Map<String, Value>> {
    let mut fields = Map::new();
    for (name, field) in row.into_columns() {
        let value = value(&field).with_context(|| format!("field `{name}`"))?;
        ensure!(fields.insert(name.clone(), value).is_none(), "field `{name}`: stands twice");
    }
    Ok(fields)
}

/// A cell as JSON has it: what has no form there, such as a time, as text.
fn value(field: &Field) -> Result<Value> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        Field::Float16(value) => number(f64::from(*value))?,
        Field::Float(value) => number(f64::from(*value))?,
        Field::Double(value) => number(*value)?,
        Field::Str(value) => value.as_str().into(),
        // Some writers do not say that their bytes are text.
        Field::Bytes(value) => match std::str::from_utf8(value.data()) {
            Ok(text) => text.into(),
            Err(_) => value.data().into(),
        },
        Field::Group(row) => {
            let fields = row.get_column_iter().map(|(name, field)| Ok((name.clone(), value(field)?)));
            Value::Object(fields.collect::<Result<_>>()?)
        }
        Field::ListInternal(list) => Value::Array(list.elements().iter().map(value).collect::<Result<_>>()?),
        Field::MapInternal(map) => {
            let entry = |(key, field): &(Field, Field)| match value(key)? {
                Value::String(key) => Ok((key, value(field)?)),
                key => Ok((key.to_string(), value(field)?)),
            };
            Value::Object(map.entries().iter().map(entry).collect::<Result<_>>()?)
        }
        Field::Decimal(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => field.to_string().into(),
    })
}

fn number(value: f64) -> Result<Value> {
    match Number::from_f64(value) {
        Some(number) => Ok(number.into()),
        None => bail!("is not a finite number"),
    }
}
