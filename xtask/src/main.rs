//! `cargo xtask COMMAND`: the project's own commands, in the language everybody here has.

mod bench;
mod codegen;
mod fuzz;
mod instructions;
mod interop;
mod mutants;
mod package;
mod reliability;
mod tidy;

use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "bench",
        about: "[--quick] [--only x]  brokers side by side: rates, latency, memory, CPU",
        run: bench::run,
    },
    Command {
        name: "codegen",
        about: "[--check]  the wire crate's constants and methods from RabbitMQ's specification",
        run: |_| codegen::run(),
    },
    Command {
        name: "instructions",
        about: "[--update]  instructions per message on the hot paths, against instructions.txt",
        run: instructions::run,
    },
    Command {
        name: "fuzz",
        about: "[--seconds n] [--only x]  arbitrary octets against everything that reads octets from strangers",
        run: fuzz::run,
    },
    Command {
        name: "interop",
        about: "[--only x] [--url u] [--against rabbitmq]  other people's clients and suites against a broker",
        run: interop::run,
    },
    Command {
        name: "mutants",
        about: "[--only x] [--power]  takes a sync or a checksum away and demands that simulations, or power cuts, notice",
        run: mutants::run,
    },
    Command {
        name: "package",
        about: "[--binary x]  static binary, Debian package, container image; each is tried",
        run: package::run,
    },
    Command {
        name: "reliability",
        about: "[--quick] [--row n] [--only x]  kills, full disks, broken networks: what was promised is kept",
        run: reliability::run,
    },
    Command { name: "tidy", about: "style, borders between crates, leftovers", run: tidy::run },
];

fn main() -> ExitCode {
    if let Some(error) = forget_cargo() {
        eprintln!("cannot start again: {error}");
        return ExitCode::FAILURE;
    }
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        print_usage();
        return ExitCode::from(2);
    };
    match (command.run)(&args.collect::<Vec<String>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts this program again without what Cargo said about its package. Build scripts of dependencies look at the same variables: what is built
/// from here would be built once more by the next Cargo that is started by hand, and the other way round.
fn forget_cargo() -> Option<std::io::Error> {
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    let names = std::env::vars_os().filter_map(|(name, _value)| name.into_string().ok());
    let names: Vec<String> = names.filter(|name| told(name)).collect();
    if names.is_empty() {
        return None;
    }
    let mut again = match std::env::current_exe() {
        Ok(program) => std::process::Command::new(program),
        Err(error) => return Some(error),
    };
    for name in names {
        again.env_remove(name);
    }
    Some(again.args(std::env::args_os().skip(1)).exec())
}

fn print_usage() {
    eprintln!("cargo xtask COMMAND");
    for command in COMMANDS {
        eprintln!("  {:<12} {}", command.name, command.about);
    }
}

/// The folder of the workspace's `Cargo.toml`.
fn workspace_root() -> PathBuf {
    let xtask = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask is a folder of the workspace").to_path_buf()
}

/// Where Cargo builds; this program lies in its `PROFILE` folder.
fn target_directory() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).context("xtask runs outside a target folder")?.to_path_buf())
}
