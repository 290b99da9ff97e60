//! File systems, mounts and loop devices, by the programs that make and check them.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A process that was just killed may hold its files for a moment.
const TRIES: usize = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// A file system that a broker may live on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    pub(super) fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Xfs => "xfs",
        }
    }

    /// With the defaults of its tools, but for the size: XFS wants 300 MiB unless told otherwise.
    pub(super) fn make(self, device: &Path) -> Result<()> {
        let mut make = Command::new(format!("mkfs.{}", self.name()));
        match self {
            FileSystem::Ext4 => make.args(["-q", "-F", "-b", "4096", "-m", "0"]),
            FileSystem::Xfs => make.args(["-q", "-f", "-K", "--unsupported"]),
        };
        succeed(make.arg(device)).map(drop)
    }

    /// Looks for damage and repairs nothing.
    ///
    /// # Errors
    /// There is some: with what the tool said.
    pub(super) fn check(self, image: &Path) -> Result<()> {
        let mut check = match self {
            FileSystem::Ext4 => Command::new("e2fsck"),
            FileSystem::Xfs => Command::new("xfs_repair"),
        };
        check.args(match self {
            FileSystem::Ext4 => ["-f", "-n"].as_slice(),
            FileSystem::Xfs => &["-n", "-f"],
        });
        succeed(check.arg(image)).map(drop)
    }
}

/// A mounted file system. Dropping it unmounts it.
pub(super) struct Mount {
    point: PathBuf,
}

impl Mount {
    /// Mounts `source`, an image or a device, at `point`: the file system replays its own journal.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub(super) fn new(file_system: FileSystem, source: &Path, point: &Path) -> Result<Mount> {
        std::fs::create_dir_all(point)?;
        let mut mount = Command::new("mount");
        let options: &[&str] = match (file_system, source.is_file()) {
            // Images of one recording have one name; XFS would not mount two at once.
            (FileSystem::Xfs, true) => &["-o", "loop,nouuid"],
            (FileSystem::Ext4, true) => &["-o", "loop"],
            // What it writes unasked every 5 s would hide on a slow machine what nobody has flushed.
            (FileSystem::Ext4, false) => &["-o", "commit=600"],
            (FileSystem::Xfs, false) => &[],
        };
        succeed(mount.args(["-t", file_system.name()]).args(options).arg(source).arg(point))?;
        Ok(Mount { point: point.to_owned() })
    }

    /// Memory as a file system, for what nobody needs after a while; `size` is tmpfs(5)'s.
    pub(super) fn memory(point: &Path, size: &str) -> Result<Mount> {
        std::fs::create_dir_all(point)?;
        let options = format!("size={size}");
        succeed(
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "leveret-reliability"]).arg(point),
        )?;
        Ok(Mount { point: point.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.point
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        for _ in 0..TRIES {
            if succeed(Command::new("umount").arg(&self.point)).is_ok() {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        eprintln!("{} is left mounted", self.point.display());
    }
}

/// A loop device. Dropping it detaches it.
pub(super) struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    pub(super) fn attach(file: &Path) -> Result<LoopDevice> {
        let output = succeed(Command::new("losetup").args(["--find", "--show"]).arg(file))?;
        Ok(LoopDevice { path: output.trim().into() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if let Err(error) = succeed(Command::new("losetup").arg("--detach").arg(&self.path)) {
            eprintln!("{} is left attached: {error:#}", self.path.display());
        }
    }
}

/// Copies an image with its holes.
pub(super) fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    succeed(Command::new("cp").arg("--sparse=auto").args([from, to])).map(drop)
}

/// Runs a command to its end; returns its stdout.
///
/// # Errors
/// It fails: with what it said.
pub(super) fn succeed(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let said = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, said.trim());
    Ok(stdout.into_owned())
}
