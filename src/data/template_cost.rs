//! What a chat template may spend: minijinja counts what it does itself, and what is done for it is counted here.

use std::fmt::{self, Write as _};
use std::io;

use anyhow::ensure;
use minijinja::value::{Kwargs, StringInput, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};
use minijinja_contrib::pycompat;

/// The longest template: twice the longest that is known. What it nests fits the stack that it is compiled on.
const MAX_SOURCE: usize = 64 << 10;

/// The sum of the squares of its tags' lengths: minijinja looks at what is left of an expression at each of its operators.
/// Ten times that of the longest that is known.
const MAX_TAGS: usize = 1 << 24;

/// Instructions, or 64 bytes of data each: hundreds of times what the longest chat takes, and at most 64 MB.
const FUEL: u64 = 1_000_000;

const BYTES_A_FUEL: usize = 64;

/// A byte of a list's text costs more time than one that is copied: so many times, as minijinja has it.
const WRITTEN_BYTE: usize = 16;

/// Refuses a template that would take long to compile.
///
/// # Errors
/// Says what it has too much of.
pub fn check_source(source: &str) -> anyhow::Result<()> {
    ensure!(source.len() <= MAX_SOURCE, "it has {} bytes, and at most {MAX_SOURCE} are supported", source.len());
    let squares: usize = tag_lengths(source).map(|length| length * length).sum();
    ensure!(squares <= MAX_TAGS, "its expressions are too long; cut them into shorter ones by `set`");
    Ok(())
}

/// The bytes in each of a template's tags, `{{ }}` and `{% %}`, without what its strings hold.
fn tag_lengths(source: &str) -> impl Iterator<Item = usize> {
    let mut rest = source.as_bytes();
    std::iter::from_fn(move || {
        let start = rest.windows(2).position(|pair| matches!(pair, b"{{" | b"{%"))?;
        rest = &rest[start + 2..];
        let (mut length, mut quote, mut place) = (0, None, 0);
        while place < rest.len() {
            match (quote, rest[place]) {
                (Some(_), b'\\') => place += 1,
                (Some(open), byte) if byte == open => quote = None,
                (Some(_), _) => {}
                (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
                (None, _) if matches!(rest.get(place..place + 2), Some(b"}}" | b"%}")) => break,
                (None, _) => length += 1,
            }
            place += 1;
        }
        rest = rest.get(place..).unwrap_or_default();
        Some(length)
    })
}

/// Bounds what templates do, and gives them the methods and filters of Python that they use.
pub fn limit(environment: &mut Environment) {
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(method);
    environment.add_filter("join", join);
    environment.add_filter("tojson", python_json);
}

fn charge_bytes(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel((bytes / BYTES_A_FUEL) as u64)
}

/// A value's text, paid for as it is written: a list may hold another one many times over.
struct Paid<'a, S> {
    state: &'a S,
    text: Vec<u8>,
    paid: usize,
    error: Option<Error>,
}

impl<'a, 't, 'e> Paid<'a, State<'t, 'e>> {
    fn new(state: &'a State<'t, 'e>) -> Self {
        Self { state, text: Vec::new(), paid: 0, error: None }
    }

    fn add(&mut self, bytes: &[u8]) -> bool {
        self.text.extend_from_slice(bytes);
        let due = self.text.len() - self.paid;
        if due >= BYTES_A_FUEL {
            self.paid = self.text.len();
            self.error = charge_bytes(self.state, due * WRITTEN_BYTE).err();
        }
        self.error.is_none()
    }
}

impl<'t, 'e> fmt::Write for Paid<'_, State<'t, 'e>> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.add(text.as_bytes()) { Ok(()) } else { Err(fmt::Error) }
    }
}

impl<'t, 'e> io::Write for Paid<'_, State<'t, 'e>> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.add(bytes) { Ok(bytes.len()) } else { Err(io::ErrorKind::OutOfMemory.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Pays for a value by the length of its text.
fn charge(state: &State, value: &Value) -> Result<(), Error> {
    if let Some(text) = value.as_str() {
        return charge_bytes(state, text.len());
    }
    if matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
        let mut paid = Paid::new(state);
        let _ = write!(paid, "{value}");
        return paid.error.map_or(Ok(()), Err);
    }
    Ok(())
}

/// Python's methods, paid for by what they read and by what they make.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    // A map's own methods read nothing of it yet.
    if value.kind() != ValueKind::Map {
        charge(state, value)?;
        args.iter().try_for_each(|argument| charge(state, argument))?;
    }
    if let Some(text) = value.as_str() {
        charge_bytes(state, made_by(text, name, args)?)?;
    }
    pycompat::unknown_method_callback(state, value, name, args)
}

/// Bytes that a method of a text makes beyond what it reads.
fn made_by(text: &str, method: &str, args: &[Value]) -> Result<usize, Error> {
    let argument = |index: usize| args.get(index).and_then(Value::as_str);
    let parts = |separator: Option<&str>| match separator {
        Some(separator) => text.matches(separator).count() + 1,
        None => text.split(char::is_whitespace).count(),
    };
    Ok(match method {
        "replace" => parts(argument(0)).saturating_mul(argument(1).unwrap_or_default().len()),
        "join" => args.first().and_then(Value::len).unwrap_or(0).saturating_mul(text.len()),
        "split" | "splitlines" => parts(argument(0)).saturating_mul(size_of::<Value>()),
        "format" => {
            if args.iter().any(|value| !value.is_number() && value.as_str().is_none()) {
                return Err(Error::new(ErrorKind::InvalidOperation, "str.format takes text and numbers only here"));
            }
            let longest = (0..args.len()).filter_map(argument).map(str::len).max().unwrap_or(0);
            let numbers = text.split(|character: char| !character.is_ascii_digit());
            // A width, or a number of digits after the point.
            let widths = numbers.filter(|number| !number.is_empty()).map(|number| number.parse().unwrap_or(usize::MAX));
            widths.fold(text.matches('{').count().saturating_mul(longest), usize::saturating_add)
        }
        _ => 0,
    })
}

fn join(
    state: &mut State,
    value: &Value,
    joiner: Option<StringInput<'_>>,
    attribute: Option<&str>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    charge(state, value)?;
    filters::join(state, value, joiner, attribute, kwargs)
}

/// `tojson` as transformers gives it to templates: Python's `json.dumps`, nothing escaped for HTML.
fn python_json(state: &State, value: &Value) -> Result<String, Error> {
    struct Spaced;
    impl serde_json::ser::Formatter for Spaced {
        fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
            if first { Ok(()) } else { writer.write_all(b", ") }
        }
        fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
            if first { Ok(()) } else { writer.write_all(b", ") }
        }
        fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
            writer.write_all(b": ")
        }
    }
    let mut paid = Paid::new(state);
    let written = serde::Serialize::serialize(value, &mut serde_json::Serializer::with_formatter(&mut paid, Spaced));
    if let Some(error) = paid.error {
        return Err(error);
    }
    let failed = |error: String| Error::new(ErrorKind::BadSerialization, error);
    written.map_err(|error| failed(error.to_string()))?;
    String::from_utf8(paid.text).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_what_minijinja_takes_for_one() {
        let lengths = |source: &str| tag_lengths(source).collect::<Vec<_>>();
        assert_eq!(lengths("a {{ b }} c {% if d %}e{% endif %}"), [3, 6, 7]);
        // What a string holds is no operator, and does not end a tag.
        assert_eq!(lengths(r#"{{ "}}" ~ 'it\'s %}' }}{{x}}"#), [5, 1]);
        assert_eq!(lengths("{{ never ends"), [11]);
        assert!(check_source(&format!("{{{{ {}1 }}}}", "x~".repeat(4000))).is_err());
        assert!(check_source(&"{{ 'a' ~ x ~ 'b' }}\n".repeat(3000)).is_ok());
    }
}
