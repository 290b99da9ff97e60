//! A file system of 64 MiB for one campaign, mounted below its folder and unmounted at its end.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SIZE_BYTES: u64 = 64 << 20;
/// A process that was just killed may hold its files for a moment.
const UNMOUNT_TRIES: usize = 50;
const UNMOUNT_PAUSE: Duration = Duration::from_millis(100);

/// Which file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileSystem {
    Tmpfs,
    /// On a loop device over a file.
    Ext4,
}

/// A mounted file system. Dropping it unmounts it.
pub(super) struct SmallDisk {
    mount_point: PathBuf,
}

impl SmallDisk {
    /// Makes and mounts one. Needs root.
    ///
    /// # Errors
    /// It cannot be mounted here.
    pub(super) fn mount(file_system: FileSystem, folder: &Path) -> Result<SmallDisk> {
        let mount_point = folder.join("disk");
        std::fs::create_dir_all(&mount_point)?;
        let mut mount = Command::new("mount");
        match file_system {
            FileSystem::Tmpfs => {
                mount.args(["-t", "tmpfs", "-o", &format!("size={SIZE_BYTES}"), "leveret-reliability"]);
            }
            FileSystem::Ext4 => {
                let image = folder.join("disk.img");
                File::create(&image)?.set_len(SIZE_BYTES)?;
                // Nothing reserved for root, who we are.
                succeed(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
                mount.args(["-o", "loop"]).arg(&image);
            }
        }
        succeed(mount.arg(&mount_point))?;
        Ok(SmallDisk { mount_point })
    }

    pub(super) fn path(&self) -> &Path {
        &self.mount_point
    }

    /// A foreign file, still empty.
    pub(super) fn filler(&self) -> Result<Filler> {
        let path = self.mount_point.join("filler");
        Ok(Filler { file: File::create(&path)?, path })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        for _ in 0..UNMOUNT_TRIES {
            if succeed(Command::new("umount").arg(&self.mount_point)).is_ok() {
                return;
            }
            std::thread::sleep(UNMOUNT_PAUSE);
        }
        eprintln!("{} is left mounted", self.mount_point.display());
    }
}

/// A file that is not the broker's and takes its room.
pub(super) struct Filler {
    path: PathBuf,
    file: File,
}

impl Filler {
    /// Takes all the room that is left.
    ///
    /// # Errors
    /// Writing fails for another reason than a full disk.
    pub(super) fn grow(&mut self) -> Result<()> {
        for chunk_bytes in [64 << 10, 4 << 10, 512] {
            let chunk = vec![0x55; chunk_bytes];
            loop {
                match self.file.write(&chunk) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("filling the disk"),
                }
            }
        }
        Ok(())
    }

    /// Gives the room back.
    pub(super) fn remove(self) -> Result<()> {
        std::fs::remove_file(&self.path).context("removing the filler")
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, errors.trim());
    Ok(())
}
