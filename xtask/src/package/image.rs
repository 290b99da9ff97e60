//! What goes into the container image: the binary, a place for the data, and nothing else. `docker build` only copies it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::{Release, place, run_tool, write};
use crate::workspace_root;

/// Not a user of any machine; Kubernetes' `runAsNonRoot` wants a number.
const USER_ID: u32 = 10_001;

/// Makes the folder for `docker build`; returns its path.
pub(super) fn make(release: &Release) -> Result<PathBuf> {
    let folder = release.folder.join("image");
    let rootfs = folder.join("rootfs");
    place(&workspace_root().join("packaging/Dockerfile"), &folder.join("Dockerfile"), 0o644)?;
    place(&release.binary, &rootfs.join("usr/bin/leveret"), 0o755)?;
    let user = format!("leveret:x:{USER_ID}:{USER_ID}::/var/lib/leveret:/nonexistent\n");
    write(&rootfs.join("etc/passwd"), user.as_bytes(), 0o644)?;
    for empty in ["var/lib/leveret", "tmp"] {
        std::fs::create_dir_all(rootfs.join(empty))?;
    }
    let owner = format!("{USER_ID}:{USER_ID}");
    run_tool(
        Command::new("chown")
            .args(["-R", &owner])
            .arg(rootfs.join("var/lib/leveret"))
            .arg(rootfs.join("tmp")),
    )?;
    Ok(folder)
}
