//! Where options were given: on the command line, or in a file.

use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;

/// Whether an option stands on the command line, with its default or with another value.
pub fn was_typed(matches: &ArgMatches, name: &str) -> bool {
    matches.value_source(name) == Some(ValueSource::CommandLine)
}

/// Whether the file of options is one that the user named.
pub fn is_named(matches: &ArgMatches) -> bool {
    matches.try_contains_id("file").unwrap_or(false)
}

/// The configuration file that a verb uses: the one named, or for `train --resume` that of the run itself.
pub fn config_file(matches: &ArgMatches) -> Option<PathBuf> {
    let path = |name: &str| matches.try_get_one::<PathBuf>(name).ok().flatten();
    let resume = matches.try_get_one("resume").ok().flatten() == Some(&true);
    let own = || path("output_dir").map(|dir| dir.join("config.toml")).filter(|path| resume && path.exists());
    path("file").cloned().or_else(own)
}
