//! `man`: the manual pages, of the command and of every verb, made of what `--help` says.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use clap_mangen::Man;

use super::{Ended, command, print};
use crate::files::write_file;

#[derive(Args)]
pub struct ManArgs {
    /// Where the pages go; made where it is not there
    #[arg(long, value_name = "DIR")]
    output_dir: PathBuf,
}

pub fn run(args: &ManArgs) -> Result<Ended> {
    fs::create_dir_all(&args.output_dir).with_context(|| args.output_dir.display().to_string())?;
    let mut whole = command();
    whole.build();
    let name = whole.get_name().to_owned();
    let verbs = whole.get_subcommands().filter(|verb| verb.get_name() != "help").cloned();
    // A page's name is the command's, with its verb: `man dqo-wgpu-train`.
    let of_verb = |verb: clap::Command| {
        let page = format!("{name}-{}", verb.get_name());
        verb.name(page.clone()).display_name(page)
    };
    let pages: Vec<clap::Command> = std::iter::once(whole.clone()).chain(verbs.map(of_verb)).collect();
    for page in pages {
        let path = args.output_dir.join(format!("{}.1", page.get_name()));
        let mut text = Vec::new();
        Man::new(page).render(&mut text)?;
        write_file(&path, &text)?;
        print(path.display());
    }
    Ok(Ended::Done)
}
