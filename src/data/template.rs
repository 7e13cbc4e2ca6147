//! Chat templates: a model's own Jinja template, or ChatML.

use anyhow::{Context, Result, anyhow, bail, ensure};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, context};
use serde_json::{Map, Value};

use super::guard::on_deep_stack;
use super::template_cost::{check_source, limit};
use crate::source::{Description, Descriptions, place_of};

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
const CONFIG: &str = "tokenizer_config.json";

/// A model's own chat template, where it has one.
///
/// # Errors
/// Names the file that cannot be read, or has something else in its place.
pub fn own_template(said: &Descriptions, tokenizer_config: &Map<String, Value>) -> Result<Option<Description>> {
    if let Some(file) = said.description("chat_template.jinja")? {
        return Ok(Some(file));
    }
    let place = place_of(said.model(), CONFIG);
    let text = template_in(tokenizer_config).with_context(|| place.clone())?;
    Ok(text.map(|text| Description { text, place }))
}

impl ChatTemplate {
    /// The template in `chat_template.jinja`, else in `tokenizer_config.json`, else ChatML.
    ///
    /// # Errors
    /// Names the file where the template is not valid.
    pub fn read(said: &Descriptions, tokenizer_config: &Map<String, Value>) -> Result<Self> {
        let tokens = special_tokens(tokenizer_config).with_context(|| place_of(said.model(), CONFIG))?;
        let own = own_template(said, tokenizer_config)?;
        let place = own.as_ref().map_or_else(|| place_of(said.model(), CONFIG), |own| own.place.clone());
        let template = Self::of_source(own.map_or_else(|| CHATML.to_owned(), |own| own.text), tokens);
        template.with_context(|| format!("{place}: the chat template is not valid"))
    }

    fn of_source(source: String, tokens: Map<String, Value>) -> Result<Self> {
        check_source(&source)?;
        let mut environment = Environment::new();
        environment.set_debug(false);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(plain)?);
        limit(&mut environment);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        on_deep_stack(|| environment.add_template_owned(NAME, source))?.map_err(plain)?;
        Ok(Self { environment, tokens })
    }

    /// The text of a prompt: `messages`, then the start of the assistant's turn.
    ///
    /// # Errors
    /// Where the template refuses the messages or fails.
    pub fn render(&self, messages: &[Value]) -> Result<String> {
        let render = || {
            let template = self.environment.get_template(NAME)?;
            let messages = minijinja::Value::from(Serde(messages));
            let tokens = minijinja::Value::from(Serde(&self.tokens));
            template.render(context! { messages, add_generation_prompt => true, ..tokens })
        };
        on_deep_stack(render).and_then(|rendered| rendered.map_err(plain)).context("the chat template fails")
    }
}

fn plain(error: minijinja::Error) -> anyhow::Error {
    if error.kind() == ErrorKind::OutOfFuel {
        return anyhow!("it does not end, or writes without measure; use another one");
    }
    // Not `{:#}`, which lists the template: an error is a line.
    anyhow!("{error}")
}

/// One template, or the one called `default` of several.
fn template_in(tokenizer_config: &Map<String, Value>) -> Result<Option<String>> {
    match tokenizer_config.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(source)) => Ok(Some(source.clone())),
        Some(Value::Array(named)) => {
            let default = named.iter().find(|template| template["name"] == "default");
            let source = default.and_then(|default| default["template"].as_str());
            let source = source.context("chat_template has no template with the name \"default\"")?;
            Ok(Some(source.to_owned()))
        }
        Some(_) => bail!("chat_template is neither a template nor a list of named ones"),
    }
}

fn special_tokens(tokenizer_config: &Map<String, Value>) -> Result<Map<String, Value>> {
    let mut tokens = Map::new();
    for name in TOKENS {
        if let Some(text) = token_text(tokenizer_config, name)? {
            tokens.insert(name.to_owned(), text.into());
        }
    }
    Ok(tokens)
}

/// A special token: text, or an object with the text as `content`.
pub(super) fn token_text<'a>(tokenizer_config: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>> {
    let token = tokenizer_config.get(name).unwrap_or(&Value::Null);
    let text = token.as_str().or_else(|| token.get("content")?.as_str());
    ensure!(token.is_null() || text.is_some(), "{name} {token} is neither text nor an object with text as `content`");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, messages: Value) -> Result<String> {
        let config = serde_json::json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}});
        let template = ChatTemplate::of_source(source.to_owned(), special_tokens(config.as_object().unwrap())?)?;
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
        assert!(format!("{:#}", render(source, tool).unwrap_err()).contains("no tool"));
    }

    #[test]
    fn tojson_is_pythons() {
        let messages = serde_json::json!([{"role": "user", "content": "<a> & 'b' é", "n": [1, 2]}]);
        let text = render("{{ messages[0] | tojson }}", messages).unwrap();
        assert_eq!(text, r#"{"role": "user", "content": "<a> & 'b' é", "n": [1, 2]}"#);
    }

    #[test]
    fn a_broken_template_says_so() {
        for (source, message) in [
            ("a\n{% for x in %}", "syntax error: unexpected end of block (in chat_template:2)"),
            (
                "{{ 1 / 0 }}",
                "the chat template fails: invalid operation: unable to calculate 1 / 0 (in chat_template:1)",
            ),
        ] {
            assert_eq!(format!("{:#}", render(source, user("Hi")).unwrap_err()), message);
        }
    }

    /// What grows without measure, in time, in memory or in depth, ends as an error at once.
    #[test]
    fn what_runs_away_is_stopped() {
        let doubled = |expression: &str| {
            format!(
                "{{% set ns = namespace(x='ab', l=[1]) %}}{{% for i in range(60) %}}{{% set ns.x = ns.x + ns.x %}}\
                 {{% set ns.l = [ns.l, ns.l] %}}{{% endfor %}}{{{{ {expression} }}}}"
            )
        };
        let grown = |expression: &str| {
            format!(
                "{{% set ns = namespace(x='ab' * 1000000, l=[1]) %}}{{% for i in range(40) %}}\
                 {{% set ns.l = [ns.l, ns.l] %}}{{% endfor %}}{{{{ {expression} }}}}"
            )
        };
        let deep = |expression: &str| {
            format!(
                "{{% set ns = namespace(l=[]) %}}{{% for i in range(90000) %}}{{% set ns.l = [ns.l] %}}{{% endfor %}}\
                 {{{{ {expression} }}}}"
            )
        };
        let chain = |link: &str, last: &str| format!("{{{{ {}{last} }}}}", link.repeat(60_000 / link.len()));
        let templates = [
            "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}".to_owned(),
            doubled("ns.x"),
            doubled("ns.l"),
            grown("ns.l | join"),
            grown("','.join(ns.l)"),
            grown("ns.l | tojson | length"),
            grown("ns.x.replace('a', ns.x) | length"),
            grown("ns.x.replace('', ns.x, 99999) | length"),
            grown("ns.x.join(ns.x.split('b')) | length"),
            grown("('{0}' * 100000).format(ns.x) | length"),
            grown("ns.x.split('a') | map('length') | sum ~ ns.x.split('a') | length ~ ns.x.split('a') | length"),
            "{% for i in range(9999) %}{% set x = ('ab' * 1000000).find('c') %}{% endfor %}".to_owned(),
            "{{ '{:>1000000000}'.format(1) | length }}".to_owned(),
            "{{ '%1000000000d' | format(1) | length }}".to_owned(),
            "{{ 'x\ny' | indent(1000000000) | length }}".to_owned(),
            "{{ 'x' * 100000000 }}".to_owned(),
            "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}".to_owned(),
            "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}".to_owned(),
            "x".repeat(100_000),
            format!("{{{{ {}x }}}}", "not ".repeat(100_000)),
            chain("(", "x"),
            chain("[", "x"),
        ];
        for source in &templates {
            let start = std::time::Instant::now();
            let error = render(source, user("Hi")).map(|text| text.len()).unwrap_err();
            assert!(start.elapsed().as_secs() < 5, "{} {error:#}", &source[..source.len().min(100)]);
        }
        // These are deep: too long to be compiled, or valid.
        for source in [
            deep("ns.l"),
            deep("ns.l | tojson"),
            deep("ns.l == [ns.l]"),
            chain("not ", "1"),
            chain("-", "1"),
            chain("1+", "1"),
            chain("x~", "1"),
            chain("x.", "y"),
            chain("1 and ", "1"),
            chain("1 if 1 else ", "1"),
            format!("{{{{ x{} }}}}", "|string".repeat(8000)),
            format!("{{{{ x{} }}}}", "[0]".repeat(20_000)),
            format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(5000)),
        ] {
            let start = std::time::Instant::now();
            // Whether it renders or not, the process goes on.
            let _ = render(&source, user("Hi"));
            assert!(start.elapsed().as_secs() < 5, "{}", &source[..20]);
        }
    }

    #[test]
    fn a_template_or_a_token_of_a_wrong_type_is_refused() {
        let refusal = |config: Value| {
            let config = config.as_object().unwrap();
            let error = template_in(config).map(|_| ()).and(special_tokens(config).map(|_| ())).unwrap_err();
            error.to_string()
        };
        for template in [serde_json::json!(5), serde_json::json!({"default": "x"}), serde_json::json!(true)] {
            let message = refusal(serde_json::json!({ "chat_template": template }));
            assert_eq!(message, "chat_template is neither a template nor a list of named ones");
        }
        for templates in [serde_json::json!([]), serde_json::json!([{"name": "rag", "template": "x"}, 7])] {
            let message = refusal(serde_json::json!({ "chat_template": templates }));
            assert_eq!(message, "chat_template has no template with the name \"default\"");
        }
        let message = refusal(serde_json::json!({ "eos_token": ["</s>"] }));
        assert_eq!(message, "eos_token [\"</s>\"] is neither text nor an object with text as `content`");
    }
}
