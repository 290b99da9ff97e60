//! `leveret man`: a manual page per command.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Command;
use clap_mangen::Man;

use crate::failure::Failure;

/// Write a manual page per command into a directory, leveret.1, leveret-serve.1 and so on
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The directory; made if it is missing
    directory: PathBuf,
}

/// Writes the pages of `command` and of all commands below it.
pub(crate) fn run(arguments: &Arguments, command: Command) -> Result<(), Failure> {
    let directory = &arguments.directory;
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    // Without its own `help` command, which would have a page per page.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    Ok(write(directory, &command)?)
}

fn write(directory: &Path, command: &Command) -> anyhow::Result<()> {
    // The full name of `leveret ctl queues` is that of its page: leveret-ctl-queues(1).
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let path = directory.join(format!("{name}.1"));
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    std::fs::write(&path, page).with_context(|| path.display().to_string())?;
    command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
        .try_for_each(|below| write(directory, below))
}
