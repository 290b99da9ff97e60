//! Where a campaign works: its own folder with a broker's data, log and process.

use anyhow::{Context, Result};
use leveret_testkit::supervisor::{Launcher, Server, StartFailure, log_tail};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::verdict::Verdict;

/// From the start of a process to its listener line. Longer is a failed start.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(30);
const LOG_LINES: usize = 30;

/// The folder of one campaign. It is kept if the campaign fails, for whoever looks into it.
pub(super) struct Site {
    folder: PathBuf,
    launcher: Launcher,
}

impl Site {
    /// An empty folder below `scratch` for the broker `binary`.
    pub(super) fn create(binary: &Path, scratch: &Path, campaign: &str) -> Result<Site> {
        let folder = scratch.join(campaign);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let launcher = Launcher {
            binary: binary.to_owned(),
            data_dir: folder.join("data"),
            log: folder.join("broker.log"),
        };
        Ok(Site { folder, launcher })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn launcher(&self) -> &Launcher {
        &self.launcher
    }

    /// The same site with its data somewhere else.
    pub(super) fn with_data_in(&self, data_dir: PathBuf) -> Site {
        let launcher = Launcher { data_dir, ..self.launcher.clone() };
        Site { folder: self.folder.clone(), launcher }
    }

    /// The same site with another program for its broker.
    pub(super) fn with_binary(&self, binary: PathBuf) -> Site {
        let launcher = Launcher { binary, ..self.launcher.clone() };
        Site { folder: self.folder.clone(), launcher }
    }

    /// The same site with a broker for which a shell does something first: sets a variable, a limit, a group.
    ///
    /// # Errors
    /// The script cannot be written.
    pub(super) fn behind(&self, name: &str, setup: &str) -> Result<Site> {
        let path = self.folder.join(format!("{name}.sh"));
        let broker = self.launcher.binary.display();
        std::fs::write(&path, format!("#!/bin/sh\n{setup} || exit 1\nexec '{broker}' \"$@\"\n"))?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(self.with_binary(path))
    }

    /// Starts the broker and waits until it serves.
    ///
    /// # Errors
    /// It does not: with the end of its log.
    pub(super) fn start(&self) -> Result<Server> {
        self.launcher.start(START_TIMEOUT).map_err(|failure| self.explain(failure))
    }

    fn explain(&self, failure: StartFailure) -> anyhow::Error {
        anyhow::anyhow!("{failure}\n{}", log_tail(&self.launcher.log, LOG_LINES))
    }

    /// Octets of all files of the broker.
    pub(super) fn data_bytes(&self) -> u64 {
        bytes_below(&self.launcher.data_dir)
    }

    /// A fault if a broker of this site has panicked.
    pub(super) fn look_for_panics(&self, verdict: &mut Verdict) {
        let log = std::fs::read(&self.launcher.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        for line in log.lines().filter(|line| line.contains("panicked at")) {
            verdict.fault("panic", line);
        }
    }

    /// Removes the folder.
    pub(super) fn remove(self) -> Result<()> {
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }
}

fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        // A file may go while we look.
        Err(_) => 0,
    });
    sizes.sum()
}
