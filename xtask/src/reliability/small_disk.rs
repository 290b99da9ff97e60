//! A file system of 64 MiB for one campaign, mounted below its folder and unmounted at its end.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::disks::{self, Mount, succeed};

const SIZE_BYTES: u64 = 64 << 20;

/// Which file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileSystem {
    Tmpfs,
    /// On a loop device over a file.
    Ext4,
}

/// A mounted file system. Dropping it unmounts it.
pub(super) struct SmallDisk(Mount);

impl SmallDisk {
    /// Makes and mounts one. Needs root.
    ///
    /// # Errors
    /// It cannot be mounted here.
    pub(super) fn mount(file_system: FileSystem, folder: &Path) -> Result<SmallDisk> {
        let point = folder.join("disk");
        let mount = match file_system {
            FileSystem::Tmpfs => Mount::memory(&point, &SIZE_BYTES.to_string()),
            FileSystem::Ext4 => {
                let image = folder.join("disk.img");
                File::create(&image)?.set_len(SIZE_BYTES)?;
                // Nothing reserved for root, who we are.
                succeed(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
                Mount::new(disks::FileSystem::Ext4, &image, &point)
            }
        };
        Ok(SmallDisk(mount?))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A foreign file, still empty.
    pub(super) fn filler(&self) -> Result<Filler> {
        let path = self.path().join("filler");
        Ok(Filler { file: File::create(&path)?, path })
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
