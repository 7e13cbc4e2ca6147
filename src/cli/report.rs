//! `dqo-wgpu report`: runs side by side, as one HTML file.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use super::{Ended, interrupt, print_of};
use crate::files::{output_name, spare, write_file};
use crate::progress::say;
use crate::report::report;
use crate::train::Run;

#[derive(Args)]
pub struct ReportArgs {
    /// Output directories of training runs
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Where the page goes
    #[arg(long, value_name = "FILE|-", default_value = "report.html")]
    output: PathBuf,
    /// Write the page again every so many seconds while a run goes on; a browser that shows it reads it again
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86400))]
    watch: Option<u32>,
}

pub fn run(args: &ReportArgs) -> Result<Ended> {
    let read = |run: &PathBuf| ["config.toml", "metrics.jsonl", "final", "best"].map(|name| run.join(name));
    let inputs: Vec<_> = args.runs.iter().flat_map(read).collect();
    spare(&inputs, &args.output)?;
    let is_interrupted = match args.watch {
        Some(seconds) => watch(args, seconds, interrupt::listen()?)?,
        None => false,
    };
    // Whatever came before, this page is the last: it does not ask to be read again.
    write_file(&args.output, report(&args.runs, None)?.as_bytes())?;
    print_of(&args.output, output_name(&args.output));
    Ok(if is_interrupted { Ended::Interrupted } else { Ended::Done })
}

/// Writes the page until no run goes on, or the user stops it: whether that was so.
fn watch(args: &ReportArgs, seconds: u32, interrupt: &AtomicBool) -> Result<bool> {
    let is_stopped = || interrupt.load(Ordering::Relaxed);
    let mut last_said = String::new();
    while !is_stopped() && args.runs.iter().any(|run| Run::is_training_in(run)) {
        match report(&args.runs, Some(seconds)) {
            Ok(page) => write_file(&args.output, page.as_bytes())?,
            // A run that has just begun has no rows yet.
            Err(error) => {
                let text = format!("waiting: {error:#}");
                if text != last_said {
                    say(&text);
                    last_said = text;
                }
            }
        }
        wait(Duration::from_secs(seconds.into()), is_stopped);
    }
    Ok(is_stopped())
}

/// Waits, but no longer than until it is stopped.
fn wait(time: Duration, is_stopped: impl Fn() -> bool) {
    let start = Instant::now();
    while start.elapsed() < time && !is_stopped() {
        sleep(Duration::from_millis(50));
    }
}
