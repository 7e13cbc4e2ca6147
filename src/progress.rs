//! Progress on stderr: a bar on a terminal, plain lines elsewhere.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A line on stderr. Where nobody reads it any more (a closed pipe, a full disk), the work goes on without.
pub fn say(line: impl Display) {
    // Whole, so that lines of two threads do not mix.
    let line = harmless(&line.to_string()) + "\n";
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Text as a terminal may show it: what a file has put into it neither moves the cursor nor begins a line that looks like
/// ours. An error or a warning is one line, whatever it was made of.
fn harmless(text: &str) -> String {
    let is_one_line = ["error: ", "warning: "].iter().any(|start| text.starts_with(start));
    let mut shown = String::with_capacity(text.len());
    let mut characters = text.trim_end().chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' if is_one_line => {
                while characters.next_if(|next| next.is_whitespace()).is_some() {}
                shown.truncate(shown.trim_end().len());
                shown.push(' ');
            }
            '\n' => shown.push('\n'),
            // Beside controls, what ends lines or turns the direction of writing.
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => shown.extend(character.escape_unicode()),
            _ if character.is_control() => shown.extend(character.escape_default()),
            _ => shown.push(character),
        }
    }
    shown
}

/// Where a long task stands.
pub struct Progress {
    bar: Option<ProgressBar>,
    title: &'static str,
    total: usize,
    done: usize,
    last_line: Option<Instant>,
}

/// Time between two plain lines.
const PAUSE: Duration = Duration::from_secs(5);

impl Progress {
    /// A task of `total` parts of which `done` are done.
    pub fn new(title: &'static str, total: usize, done: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total as u64).with_position(done as u64);
            let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {elapsed} (left {eta}) {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(title);
            bar.reset_eta();
            bar
        });
        Self { bar, title, total, done, last_line: None }
    }

    /// A task that nobody watches.
    pub fn silent() -> Self {
        Self { bar: Some(ProgressBar::hidden()), title: "", total: 0, done: 0, last_line: None }
    }

    /// `count` more parts are done; `message` says how it goes.
    pub fn advance(&mut self, count: usize, message: &str) {
        self.done += count;
        if let Some(bar) = &self.bar {
            bar.set_message(harmless(message));
            bar.set_position(self.done as u64);
            return;
        }
        let due = self.last_line.is_none_or(|last| last.elapsed() >= PAUSE);
        if due || self.done == self.total {
            say(format_args!("{} {}/{} {message}", self.title, self.done, self.total));
            self.last_line = Some(Instant::now());
        }
    }

    /// A line that stays.
    pub fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) if bar.is_hidden() => {}
            Some(bar) => bar.println(harmless(line)),
            None => say(line),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        match &self.bar {
            // A task that turned out to be done already leaves no bar.
            Some(bar) if self.done == 0 => bar.finish_and_clear(),
            Some(bar) => bar.abandon(),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn what_a_file_says_cannot_forge_a_line() {
        assert_eq!(
            harmless("error: tensor x\nerror: y\r\u{1b}[2J\u{202e}"),
            "error: tensor x error: y\\r\\u{1b}[2J\\u{202e}"
        );
        assert_eq!(harmless("warning: a  \n\n   |\n 1"), "warning: a | 1");
        assert_eq!(harmless("rows 1\nsteps\t2\n"), "rows 1\nsteps\\t2");
    }
}
