//! Ctrl-C and the signals like it: the first asks the run to stop after its step, the second ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::progress::say;

static REQUESTED: AtomicBool = AtomicBool::new(false);
/// Whether it is the user's turn, and nothing is under way that could be stopped.
static WAITING: AtomicBool = AtomicBool::new(false);

/// Whether a signal has come.
pub fn is_requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Begins to listen; the flag is set by the first signal. A hang-up that is ignored, as `nohup` has it, stays so.
///
/// # Errors
/// Where the system refuses the handler.
pub fn listen() -> Result<&'static AtomicBool> {
    handle(|| say("interrupted: what is finished is saved first; once more ends at once"))?;
    Ok(&REQUESTED)
}

/// As [`listen`], where turns are taken: a signal stops what is under way, and ends the process in the user's turn.
///
/// # Errors
/// As [`listen`].
pub fn listen_in_turns() -> Result<()> {
    handle(|| {})
}

/// The user's turn.
pub fn in_users_turn<T>(wait: impl FnOnce() -> T) -> T {
    REQUESTED.store(false, Ordering::Relaxed);
    WAITING.store(true, Ordering::Relaxed);
    let given = wait();
    WAITING.store(false, Ordering::Relaxed);
    given
}

fn handle(first: impl Fn() + Send + 'static) -> Result<()> {
    let ignores_hangup = hangup::ignore();
    ctrlc::set_handler(move || {
        if WAITING.load(Ordering::Relaxed) || REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        first();
    })
    .context("Ctrl-C cannot be caught")?;
    if ignores_hangup {
        hangup::ignore();
    }
    Ok(())
}

#[cfg(unix)]
mod hangup {
    /// Ignores hang-ups; whether they were ignored before.
    pub fn ignore() -> bool {
        // SAFETY: no handler is installed; ignoring a signal runs no code.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) == libc::SIG_IGN }
    }
}

#[cfg(not(unix))]
mod hangup {
    /// There are none.
    pub fn ignore() -> bool {
        false
    }
}
