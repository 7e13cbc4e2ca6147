//! Chat templates: a model's own Jinja template, or ChatML.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, context};
use serde_json::{Map, Value};

/// The special tokens that templates may name, as `tokenizer_config.json` does.
const TOKENS: [&str; 4] = ["bos_token", "eos_token", "unk_token", "pad_token"];

/// ChatML, for a model that has no template.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n\
                      {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A compiled template and the special tokens it is given.
pub struct ChatTemplate {
    environment: Environment<'static>,
    tokens: Map<String, Value>,
}

const NAME: &str = "chat_template";

impl ChatTemplate {
    /// The template in `DIR/chat_template.jinja`, else in `DIR/tokenizer_config.json`, else ChatML.
    ///
    /// # Errors
    /// Names the file where the template is not valid.
    pub fn read(dir: &Path, tokenizer_config: &Map<String, Value>) -> Result<Self> {
        let file = dir.join("chat_template.jinja");
        let (source, place) = if file.exists() {
            (std::fs::read_to_string(&file).with_context(|| format!("{}: cannot be read", file.display()))?, file)
        } else {
            let source = template_in(tokenizer_config).unwrap_or_else(|| CHATML.to_owned());
            (source, dir.join("tokenizer_config.json"))
        };
        let template = Self::of_source(source, tokenizer_config);
        template.with_context(|| format!("{}: the chat template is not valid", place.display()))
    }

    fn of_source(source: String, tokenizer_config: &Map<String, Value>) -> Result<Self> {
        let mut environment = Environment::new();
        // An error is a line, not a listing of the template.
        environment.set_debug(false);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| anyhow!("{error:#}"))?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", python_json);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(NAME, source).map_err(|error| anyhow!("{error:#}"))?;
        let tokens =
            TOKENS.iter().filter_map(|&name| Some((name.to_owned(), token_text(tokenizer_config.get(name)?)?)));
        Ok(Self { environment, tokens: tokens.collect() })
    }

    /// The text of a prompt: `messages`, then the start of the assistant's turn.
    ///
    /// # Errors
    /// Where the template refuses the messages or fails.
    pub fn render(&self, messages: &[Value]) -> Result<String> {
        let template = self.environment.get_template(NAME).map_err(|error| anyhow!("{error:#}"))?;
        let messages = minijinja::Value::from(Serde(messages));
        let tokens = minijinja::Value::from(Serde(&self.tokens));
        let values = context! { messages, add_generation_prompt => true, ..tokens };
        template.render(values).map_err(|error| anyhow!("the chat template fails: {error:#}"))
    }
}

/// One template, or the one called `default` of several.
fn template_in(tokenizer_config: &Map<String, Value>) -> Option<String> {
    match tokenizer_config.get("chat_template")? {
        Value::String(source) => Some(source.clone()),
        Value::Array(named) => {
            let default = named.iter().find(|template| template["name"] == "default")?;
            default["template"].as_str().map(str::to_owned)
        }
        _ => None,
    }
}

/// A special token: text, or an object with the text as `content`.
pub(super) fn token_text(token: &Value) -> Option<Value> {
    match token {
        Value::String(_) => Some(token.clone()),
        Value::Object(token) => token.get("content").cloned(),
        _ => None,
    }
}

/// `tojson` as transformers gives it to templates: Python's `json.dumps`, nothing escaped for HTML.
fn python_json(value: minijinja::Value) -> Result<String, minijinja::Error> {
    struct Spaced;
    impl serde_json::ser::Formatter for Spaced {
        fn begin_array_value<W: ?Sized + std::io::Write>(
            &mut self,
            writer: &mut W,
            first: bool,
        ) -> std::io::Result<()> {
            if first { Ok(()) } else { writer.write_all(b", ") }
        }
        fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
            if first { Ok(()) } else { writer.write_all(b", ") }
        }
        fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
            writer.write_all(b": ")
        }
    }
    let mut output = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut output, Spaced);
    let failed = |error: String| minijinja::Error::new(ErrorKind::BadSerialization, error);
    serde::Serialize::serialize(&value, &mut serializer).map_err(|error| failed(error.to_string()))?;
    String::from_utf8(output).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, messages: Value) -> Result<String> {
        let config = serde_json::json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}});
        let template = ChatTemplate::of_source(source.to_owned(), config.as_object().unwrap())?;
        template.render(messages.as_array().unwrap())
    }

    fn user(content: &str) -> Value {
        serde_json::json!([{"role": "user", "content": content}])
    }

    #[test]
    fn chatml_is_the_fallback() {
        let text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(render(CHATML, user("Hi")).unwrap(), text);
    }

    #[test]
    fn templates_use_what_real_ones_use() {
        let source = "{{ bos_token }}{%- if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% else %}
            {%- set rest = messages %}{% endif %}
            {%- set ns = namespace(n=0) %}
            {%- for message in rest %}
                {%- if message.role not in ['user', 'assistant'] %}{{ raise_exception('no ' + message.role) }}{% endif %}
                {%- set ns.n = ns.n + 1 %}
                {{- '[' + message['content'].strip() | trim + '|' ~ loop.index0 ~ ']' -}}
            {%- endfor %}
            {%- if add_generation_prompt and tools is not defined %}{{ eos_token }}{{ ns.n }}{% endif %}";
        assert_eq!(render(source, user(" Hi ")).unwrap(), "<s>[Hi|0]</s>1");
        let system = serde_json::json!([{"role": "system", "content": "S"}, {"role": "user", "content": "a\n"}]);
        assert_eq!(render(source, system).unwrap(), "<s>[a|0]</s>1");
        let tool = serde_json::json!([{"role": "tool", "content": "x"}]);
        assert!(render(source, tool).unwrap_err().to_string().contains("no tool"));
    }

    #[test]
    fn tojson_is_pythons() {
        let messages = serde_json::json!([{"role": "user", "content": "<a> & 'b' é", "n": [1, 2]}]);
        let text = render("{{ messages[0] | tojson }}", messages).unwrap();
        assert_eq!(text, r#"{"role": "user", "content": "<a> & 'b' é", "n": [1, 2]}"#);
    }

    #[test]
    fn a_broken_template_says_so() {
        assert!(render("{% for %}", user("Hi")).is_err());
    }
}
