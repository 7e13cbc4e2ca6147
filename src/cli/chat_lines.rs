//! What a user types, a line at a time: at a terminal with an editor, else as it comes.

use std::io::{self, BufRead, IsTerminal};

use anyhow::{Context, Result, anyhow};
use rustyline::error::ReadlineError;
use rustyline::{
    Cmd, ConditionalEventHandler, DefaultEditor, Event, EventContext, EventHandler, KeyEvent, Movement, RepeatCount,
};

/// Where lines come from.
pub enum Lines {
    /// A terminal, with an editor on it.
    Terminal(Box<DefaultEditor>),
    /// A pipe or a file, and how many lines it has given.
    Pipe(usize),
}

impl Lines {
    /// Standard input.
    ///
    /// # Errors
    /// Where a terminal cannot be used.
    pub fn open() -> Result<Self> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(Self::Pipe(0));
        }
        let mut editor = DefaultEditor::new().context("the terminal cannot be used")?;
        editor.bind_sequence(KeyEvent::ctrl('C'), EventHandler::Conditional(Box::new(ClearOrEnd)));
        Ok(Self::Terminal(Box::new(editor)))
    }

    /// Whether somebody sits there.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// Where it cannot be read, or is no text.
    pub fn next(&mut self) -> Result<Option<String>> {
        match self {
            Self::Terminal(editor) => match editor.readline("> ") {
                Ok(line) => {
                    editor.add_history_entry(&line).context("the terminal cannot be used")?;
                    Ok(Some(line))
                }
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(None),
                Err(error) => Err(anyhow!("the terminal cannot be read: {error}")),
            },
            Self::Pipe(lines) => {
                *lines += 1;
                let mut line = Vec::new();
                let read = io::stdin().lock().read_until(b'\n', &mut line).context("standard input: cannot be read")?;
                let text = String::from_utf8(line);
                let text = text.map_err(|_| anyhow!("standard input:{lines}: is not UTF-8"))?;
                Ok((read > 0).then_some(text))
            }
        }
    }

    /// The place of the last line, to begin an error with.
    pub fn place(&self) -> Option<String> {
        match self {
            Self::Terminal(_) => None,
            Self::Pipe(lines) => Some(format!("standard input:{lines}")),
        }
    }
}

/// Ctrl-C on a line clears it, and on an empty one ends the conversation.
struct ClearOrEnd;

impl ConditionalEventHandler for ClearOrEnd {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext) -> Option<Cmd> {
        Some(if context.line().is_empty() { Cmd::Interrupt } else { Cmd::Kill(Movement::WholeBuffer) })
    }
}
