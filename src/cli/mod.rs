//! The command line: one file a verb, which parses and checks, then calls the library.
//!
//! Results go to stdout, progress to stderr. Exit codes: 0, 1 (failed, with `error: ...`), 2 (wrong usage),
//! 130 (interrupted; a checkpoint was saved first).

mod bench;
mod chat;
mod chat_judge;
mod chat_lines;
mod completions;
mod config_file;
mod demo;
mod devices;
mod eval;
mod export;
mod generate;
mod given;
mod grade;
mod help;
mod interrupt;
mod logp;
mod man;
mod merge;
mod needs;
mod plan;
mod process_reward;
mod report;
mod sample;
mod train;
mod values;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::error::ErrorKind;
use clap::{Arg, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::files::is_stream;
use crate::gpu::take_turn;
use crate::progress::{be_quiet, is_left_to_another, leave_it_to_another, say};
use crate::ranks::Ranks;

/// Fine-tunes language models by offline reinforcement learning (DQO) on any GPU.
#[derive(Parser)]
#[command(name = "dqo-wgpu", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Errors, warnings and the result alone: no progress
    #[arg(long, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// The whole loop on a tiny embedded model and task: sample, grade, train, evaluate, report
    Demo(demo::DemoArgs),
    /// Show the adapters, their limits and features, and which one `auto` takes
    Devices(devices::DevicesArgs),
    /// Sample responses to problems, graded where there is an answer, as rollouts for training
    Sample(sample::SampleArgs),
    /// Give rows a reward by their answer
    Grade(grade::GradeArgs),
    /// Find which steps of each response still led to a right answer
    ProcessReward(process_reward::ProcessRewardArgs),
    /// Write one response to the terminal
    Generate(generate::GenerateArgs),
    /// Talk with a policy, a line a turn, with V beside each answer where there is a value network
    Chat(chat::ChatArgs),
    /// Count how many problems a policy solves
    Eval(eval::EvalArgs),
    /// Write the log-prob and the entropy of every response token
    Logp(logp::LogpArgs),
    /// Train a policy, and a value network where the method has one
    Train(train::TrainArgs),
    /// Show what a value network says along given responses, token by token
    Values(values::ValuesArgs),
    /// Show runs side by side, their curves and settings, as one HTML file
    Report(report::ReportArgs),
    /// Show the memory and the steps of a training run, from the model's configuration alone; without
    /// --data, of full micro-batches
    Plan(plan::PlanArgs),
    /// Make a model, a directory or a GGUF file, of a base and adapters
    Merge(merge::MergeArgs),
    /// Write a model, or adapters, as a GGUF file for llama.cpp
    Export(export::ExportArgs),
    /// Time every kernel, and hold it against the device's own limit and the f64 twin
    Bench(bench::BenchArgs),
    /// Print what a shell needs to complete the command line
    Completions(completions::CompletionsArgs),
    /// Write the manual pages, one a verb
    Man(man::ManArgs),
}

/// How a verb ended well.
enum Ended {
    Done,
    Interrupted,
}

/// Runs the command of this process.
pub fn main() -> ExitCode {
    quiet_driver();
    let ranks = match Ranks::of_process() {
        Ok(ranks) => ranks,
        Err(error) => return failed(&Ranks::alone(), &error),
    };
    if !ranks.is_first() {
        leave_it_to_another();
    }
    take_turn(ranks.number_on_machine());
    let matches = match command().try_get_matches_from(with_dashes(std::env::args_os())) {
        Ok(matches) => matches,
        Err(error) => return wrong_usage(&ranks, &error),
    };
    let Some((verb, of_verb)) = matches.subcommand() else { unreachable!("a verb is required") };
    if let Err(error) = needs::check(verb, of_verb) {
        return failed(&ranks, &error);
    }
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return wrong_usage(&ranks, &error),
    };
    if cli.quiet {
        be_quiet();
    }
    compute_here_too();
    let code = match run(cli.verb, of_verb, &ranks) {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Interrupted) => ExitCode::from(130),
        Err(error) => return failed(&ranks, &error),
    };
    // A launcher ends the ranks that are left when one of them has ended with a code.
    ranks.wait();
    code
}

/// Makes this thread one of those that the CPU device computes on: handing a kernel over to others takes longer than a small one.
fn compute_here_too() {
    // Where there are threads already, they compute without this one.
    let _ = rayon::ThreadPoolBuilder::new().use_current_thread().build_global();
}

fn failed(ranks: &Ranks, error: &anyhow::Error) -> ExitCode {
    end(ranks, &format!("error: {error:#}"), 1)
}

/// Says why the process ends, and ends all ranks.
fn end(ranks: &Ranks, why: &str, code: u8) -> ExitCode {
    if ranks.are_several() {
        // The first one tells the others with it.
        let has_first_failed = ranks.first_has_failed();
        if ranks.is_first() || !has_first_failed {
            say(format_args!("error: {ranks}: {}", why.strip_prefix("error: ").unwrap_or(why)));
        }
    } else {
        say(why);
    }
    ranks.abort(code);
    ExitCode::from(code)
}

/// The whole command line, as clap has it: of an option that is given twice the last one counts.
pub fn command() -> Command {
    // `--beta -1` is out of range, not an option called -1.
    let with_negatives = |argument: Arg| {
        let takes_value = argument.get_action().takes_values();
        argument.allow_negative_numbers(takes_value)
    };
    let verbs = Cli::command().mut_subcommands(|verb| verb.args_override_self(true).mut_args(with_negatives));
    help::laid_out(verbs)
}

/// The names of options with dashes where they were written with underscores, as other trainers have them.
fn with_dashes(arguments: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut options_end = false;
    arguments.map(move |argument| {
        options_end |= argument == "--";
        let Some(option) = argument.to_str().filter(|text| text.starts_with("--") && !options_end) else {
            return argument;
        };
        let (name, value) = option.split_at(option.find('=').unwrap_or(option.len()));
        (name.replace('_', "-") + value).into()
    })
}

/// Says what is wrong with the command line, in a line; or the help, where that was asked for.
fn wrong_usage(ranks: &Ranks, error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.exit();
    }
    let text = error.to_string();
    let gist = ["\n\nUsage:", "\n\nFor more information"].iter().filter_map(|end| text.find(end)).min();
    end(ranks, text.get(..gist.unwrap_or(text.len())).unwrap_or(&text), 2)
}

/// Without a desktop session, a layer of Mesa's says `error: XDG_RUNTIME_DIR is invalid` whenever adapters are listed.
/// It only orders adapters for desktops; it is left out there.
fn quiet_driver() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: this is the first thing that the process does; there is no other thread that could read the
        // environment meanwhile.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

/// A line of the result.
fn print(line: impl Display) {
    print_text(format_args!("{line}\n"));
}

/// A line about what went to `output`: on stdout, or on stderr where that was stdout.
fn print_of(output: &Path, line: impl Display) {
    if is_stream(output) { say(line) } else { print(line) }
}

/// A part of the result. Where nobody reads on (a pipe that was closed), the command ends there; as interrupted, where it was.
fn print_text(text: impl Display) {
    if is_left_to_another() {
        return;
    }
    let mut stdout = std::io::stdout();
    if let Err(error) = write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        let closed = error.kind() == io::ErrorKind::BrokenPipe;
        if !closed {
            say(format_args!("error: standard output cannot be written: {error}"));
        }
        std::process::exit(match (closed, interrupt::is_requested()) {
            (true, true) => 130,
            (true, false) => 0,
            (false, _) => 1,
        });
    }
}

fn run(verb: Verb, matches: &clap::ArgMatches, ranks: &Ranks) -> Result<Ended> {
    let shares_its_work = matches!(
        verb,
        Verb::Train(_) | Verb::Sample(_) | Verb::Eval(_) | Verb::ProcessReward(_) | Verb::Logp(_) | Verb::Values(_)
    );
    ensure!(
        shares_its_work || !ranks.are_several(),
        "there are {} ranks, and this verb does not share its work out; start it without mpirun",
        ranks.count()
    );
    match verb {
        Verb::Demo(args) => demo::run(args, matches),
        Verb::Devices(args) => devices::run(&args),
        Verb::Sample(args) => sample::run(args, matches, ranks),
        Verb::Grade(args) => grade::run(args, matches),
        Verb::ProcessReward(args) => process_reward::run(args, matches, ranks),
        Verb::Generate(args) => generate::run(args, matches),
        Verb::Chat(args) => chat::run(args, matches),
        Verb::Eval(args) => eval::run(args, matches, ranks),
        Verb::Logp(args) => logp::run(args, matches, ranks),
        Verb::Train(args) => train::run(args, matches, ranks),
        Verb::Values(args) => values::run(args, matches, ranks),
        Verb::Report(args) => report::run(&args),
        Verb::Plan(args) => plan::run(args, matches),
        Verb::Merge(args) => merge::run(args, matches),
        Verb::Export(args) => export::run(args, matches),
        Verb::Bench(args) => bench::run(args, matches),
        Verb::Completions(args) => completions::run(&args),
        Verb::Man(args) => man::run(&args),
    }
}
