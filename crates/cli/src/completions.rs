//! `leveret completions`: what a shell needs to complete commands and flags.

use std::io::{self, Write};

use clap_complete::Shell;

use crate::failure::Failure;

/// Print what a shell needs to complete commands and flags
///
/// bash: leveret completions bash > ~/.local/share/bash-completion/completions/leveret.
/// zsh: leveret completions zsh > a file _leveret in a directory of $fpath.
/// fish: leveret completions fish > ~/.config/fish/completions/leveret.fish.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

/// Prints the script for `command`.
pub(crate) fn run(arguments: &Arguments, mut command: clap::Command) -> Result<(), Failure> {
    let name = command.get_name().to_owned();
    // clap_complete panics when nobody reads stdout any more: it gets memory.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    let mut stdout = io::stdout().lock();
    stdout.write_all(&script)?;
    Ok(stdout.flush()?)
}
