//! `completions`: what a shell completes.

use clap::Args;
use clap_complete::Shell;

use super::{Ended, command, print_text};

#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: &CompletionsArgs) -> anyhow::Result<Ended> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "dqo-wgpu", &mut script);
    print_text(String::from_utf8_lossy(&script));
    Ok(Ended::Done)
}
