//! The shell of a page: its head, its styles and scripts inside it, and the escaping of what it shows.

/// What a page is made of.
pub struct Page<'a> {
    pub title: &'a str,
    /// What kind of page it is, above the heading.
    pub kind: &'a str,
    /// HTML, as all parts are; everything that came from a file is escaped in it.
    pub heading: &'a str,
    /// After how many seconds the page is read again.
    pub reload: Option<u32>,
    pub parts: &'a [Part],
}

/// A part of a page, with the style and the script that it needs.
pub struct Part {
    pub body: String,
    pub style: String,
    pub script: &'static str,
}

const STYLE: &str = concat!(include_str!("page.css"), include_str!("chart.css"));
const SCRIPT: &str = concat!(include_str!("page.js"), include_str!("figure.js"), include_str!("chart.js"));
/// After those of the parts, whose switches it sets.
const LAST_SCRIPT: &str = include_str!("reload.js");

/// The policy forbids every request, so a page shows nothing but itself and tells nobody that it was opened.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

impl Part {
    /// One of the page's own style.
    pub fn of(body: String) -> Self {
        Self { body, style: String::new(), script: "" }
    }
}

impl Page<'_> {
    /// The whole file.
    pub fn html(&self) -> String {
        let Self { kind, heading, parts, .. } = self;
        let title = escape(self.title);
        let body: String = parts.iter().map(|part| part.body.as_str()).collect();
        let style: String = parts.iter().map(|part| part.style.as_str()).collect();
        // In a block of its own, so that two scripts may name a function alike.
        let script: String = parts.iter().map(|part| format!("{{\n{}}}\n", part.script)).collect();
        let reload = self.reload.map_or_else(String::new, |seconds| format!(" data-reload=\"{seconds}\""));
        let version = env!("CARGO_PKG_VERSION");
        format!(
            r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="dqo-wgpu {version}">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{STYLE}{style}</style>
</head>
<body{reload}>
<header><p class="kind">{kind}</p><h1>{heading}</h1></header>
<main>
{body}</main>
<noscript><p>The figures are drawn by the page's own script, which is off here.</p></noscript>
<footer>Made by dqo-wgpu {version}</footer>
<div id="tip" role="status" hidden></div>
<script>
"use strict";
{SCRIPT}{script}{{
{LAST_SCRIPT}}}
</script>
</body>
</html>
"#
        )
    }
}

/// Text as HTML shows it, in an element or in a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // A parser would turn the first into a newline, and drop the second.
            '\r' => escaped.push_str("&#13;"),
            '\0' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The first `length` characters of a text on one line, each run of white space as one space.
pub fn shortened(text: &str, length: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}

/// A table in a frame of its own, which scrolls where the page is too narrow for it.
pub fn table(label: &str, head: &str, body: &str) -> String {
    format!(
        "<div class=\"wide\" role=\"region\" aria-label=\"{}\" tabindex=\"0\"><table>\n<thead><tr>{head}</tr></thead>\n\
         {body}</table></div>\n",
        escape(label)
    )
}
