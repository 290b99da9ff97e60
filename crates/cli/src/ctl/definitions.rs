//! `leveret ctl definitions`: everything but messages, in RabbitMQ's format.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path as FilePath, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::output::{Change, Thing, write};
use super::session::Session;
use crate::failure::Failure;
use crate::stdin::read_stdin;

/// Users, virtual hosts, permissions, policies, queues, exchanges and bindings as one file
#[derive(clap::Subcommand)]
pub(super) enum Definitions {
    /// Write them to a file that nobody else can read, or to stdout; with --vhost those of one virtual host
    Export {
        /// The file; - is stdout
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Make what a file says; what is there and not in the file stays
    Import {
        /// The file; - is stdin
        file: PathBuf,
    },
}

impl Definitions {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let path = session.listing("definitions");
        match self {
            Self::Export { file } => {
                let definitions: Value = session.management.get(&path).await?;
                let text = format!("{definitions:#}\n");
                if is_dash(&file) {
                    return Ok(write(&text)?);
                }
                write_privately(&file, &text).with_context(|| file.display().to_string())?;
                session.output.say(&format!("written to {}", file.display()));
            }
            Self::Import { file } => {
                let name = file.display().to_string();
                let text = if is_dash(&file) {
                    read_stdin().await?
                } else {
                    std::fs::read(&file).with_context(|| name.clone())?
                };
                let definitions: Value = serde_json::from_slice(&text)
                    .map_err(|error| Failure::Usage(format!("{name} is no JSON: {error}")))?;
                session.management.post(&path, &definitions).await?;
                let thing = Thing { kind: "definitions", name: &name, vhost: session.vhost.as_deref() };
                session.output.change(&thing, Change::Done("imported"))?;
            }
        }
        Ok(())
    }
}

fn is_dash(file: &FilePath) -> bool {
    file.as_os_str() == "-"
}

/// Hashes of passwords are in it.
fn write_privately(file: &FilePath, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
