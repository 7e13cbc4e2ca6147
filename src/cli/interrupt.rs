//! Ctrl-C and the signals like it: the first asks the run to stop after its step, the second ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Begins to listen; the flag is set by the first signal.
///
/// # Errors
/// Where the system refuses the handler.
pub fn listen() -> Result<&'static AtomicBool> {
    ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("interrupted: what is finished is saved first; once more ends at once");
    })
    .context("Ctrl-C cannot be caught")?;
    Ok(&REQUESTED)
}
