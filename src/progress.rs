//! Progress on stderr: a bar on a terminal, plain lines elsewhere.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The bars of the process: a task within another has its own line.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// What is said. The order is that of less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Said {
    Everything,
    ErrorsAndWarnings,
    Errors,
}

static SAID: AtomicU8 = AtomicU8::new(Said::Everything as u8);

fn says(said: Said) -> bool {
    SAID.load(Ordering::Relaxed) <= said as u8
}

/// From now on stderr gets errors and warnings alone.
pub fn be_quiet() {
    SAID.fetch_max(Said::ErrorsAndWarnings as u8, Ordering::Relaxed);
}

/// From now on stderr gets errors alone: another process says the rest.
pub fn leave_it_to_another() {
    SAID.store(Said::Errors as u8, Ordering::Relaxed);
}

/// Whether another process says everything but errors.
pub fn is_left_to_another() -> bool {
    !says(Said::ErrorsAndWarnings)
}

/// A line on stderr. Where nobody reads it any more (a closed pipe, a full disk), the work goes on without.
pub fn say(line: impl Display) {
    let line = line.to_string();
    if !says(kind(&line)) {
        return;
    }
    // Whole, so that lines of two threads do not mix.
    let line = harmless(&line) + "\n";
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// How little may be said for a line still to be.
fn kind(line: &str) -> Said {
    match line {
        _ if line.starts_with("error: ") => Said::Errors,
        _ if line.starts_with("warning: ") => Said::ErrorsAndWarnings,
        _ => Said::Everything,
    }
}

/// Text as a terminal may show it: what a file has put into it neither moves the cursor nor begins a line that looks like
/// ours. An error or a warning is one line, whatever it was made of.
fn harmless(text: &str) -> String {
    let is_one_line = kind(text) != Said::Everything;
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
    title: String,
    total: usize,
    done: usize,
    pace: Pace,
    last_line: Option<Instant>,
}

/// Time between two plain lines.
const PAUSE: Duration = Duration::from_secs(5);

/// Time between two turns of what shows that a bar's task is alive.
const TICK: Duration = Duration::from_millis(250);

/// How fast a task goes: by the parts after the first one, as that one's time is also that of what is done once.
struct Pace {
    start: Instant,
    /// Parts that were done before.
    before: usize,
    /// When the first part was done, and how many were then.
    first: Option<(Instant, usize)>,
}

impl Pace {
    /// Of a task that begins now, of which `before` parts are done.
    fn new(before: usize) -> Self {
        Self { start: Instant::now(), before, first: None }
    }

    fn advance(&mut self, done: usize, now: Instant) {
        if self.first.is_none() && done > self.before {
            self.first = Some((now, done));
        }
    }

    /// Seconds that a part takes; `None` before the first is done.
    fn seconds_each(&self, done: usize, now: Instant) -> Option<f64> {
        let (first, of_first) = self.first?;
        let (since, parts) = if done > of_first { (first, done - of_first) } else { (self.start, done - self.before) };
        Some(now.saturating_duration_since(since).as_secs_f64() / parts as f64)
    }
}

/// The title of a task over the rows of a file: what is done, and the file's name, cut to what leaves a narrow terminal room.
pub fn titled(task: &str, file: &Path) -> String {
    const WIDTH: usize = 20;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let cut: String = name.chars().take(WIDTH).collect();
    let rest = if cut.len() < name.len() { "…" } else { "" };
    format!("{task} {cut}{rest}")
}

/// Seconds as people read them.
fn span(seconds: f64) -> String {
    match seconds.round() as u64 {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

impl Progress {
    /// A task of `total` parts of which `done` are done.
    pub fn new(title: impl Into<String>, total: usize, done: usize) -> Self {
        let title = title.into();
        let is_shown = std::io::stderr().is_terminal() && says(Said::Everything);
        let bar = is_shown.then(|| {
            let bar = BARS.add(ProgressBar::new(total as u64).with_position(done as u64));
            // What does not fit a line of the terminal is left out at its end.
            let style = ProgressStyle::with_template("{prefix} {spinner} {bar:12} {pos}/{len} {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(harmless(&title));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, title, total, done, pace: Pace::new(done), last_line: None }
    }

    /// A task that nobody watches.
    pub fn silent() -> Self {
        Self {
            bar: Some(ProgressBar::hidden()),
            title: String::new(),
            total: 0,
            done: 0,
            pace: Pace::new(0),
            last_line: None,
        }
    }

    /// `count` more parts are done; `message` says how it goes.
    pub fn advance(&mut self, count: usize, message: &str) {
        let now = Instant::now();
        self.done += count;
        self.pace.advance(self.done, now);
        let each = self.pace.seconds_each(self.done, now).filter(|_| self.done < self.total);
        let left = each.map(|each| format!("left {}", span(each * (self.total - self.done) as f64)));
        let parts = [left.as_deref().unwrap_or_default(), message];
        let words = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        if let Some(bar) = &self.bar {
            bar.set_message(harmless(&words));
            bar.set_position(self.done as u64);
            return;
        }
        let due = self.last_line.is_none_or(|last| last.elapsed() >= PAUSE);
        if due || self.done == self.total {
            say(format_args!("{} {}/{} {words}", self.title, self.done, self.total));
            self.last_line = Some(now);
        }
    }

    /// What is being done, until the next part is done; on a terminal alone.
    pub fn busy(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(harmless(what));
        }
    }

    /// The end of a task within another: its bar goes.
    pub fn clear(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// A line that stays, and that even who is quiet reads where it is a warning.
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
            Some(bar) if bar.is_finished() => {}
            Some(bar) if self.done == 0 => bar.finish_and_clear(),
            Some(bar) => bar.abandon(),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Pace, harmless, span};

    #[test]
    fn the_first_part_does_not_slow_the_others_down() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace { start, before: 3, first: None };
        pace.advance(3, after(5));
        assert_eq!(pace.seconds_each(3, after(5)), None);
        // A part of a minute, the pipelines' time in it, then some of two seconds.
        pace.advance(4, after(60));
        assert_eq!(pace.seconds_each(4, after(60)), Some(60.0));
        pace.advance(9, after(70));
        assert_eq!(pace.seconds_each(9, after(70)), Some(2.0));
        assert_eq!([0.4, 59.6, 587.0, 7380.0].map(span), ["0 s", "1 min 00 s", "9 min 47 s", "2 h 03 min"]);
    }

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
