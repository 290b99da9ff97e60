//! The software of the machine: a Debian kernel, and in its initial file system busybox and the broker.

use anyhow::{Context, Result};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::disks::succeed;
use crate::target_directory;

/// Whose newest dependency is the kernel.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";
/// In the order in which they need each other.
const MODULES: [&str; 9] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "failover",
    "net_failover",
    "virtio_net",
];
/// `guest` may log in from the loopback interface only, so the outside comes in through netcat. An emulated processor takes
/// seconds for the hash of a password if its host is busy.
const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
for module in MODULES; do $b insmod /modules/$module.ko; done
$b ip link set lo up
$b ip addr add 10.0.2.15/24 dev eth0
$b ip link set eth0 up
$b mount -t ext4 /dev/vda /data || exit 1
$b nc -ll -p 5672 -e $b nc 127.0.0.1 5673 &
export LEVERET_HANDSHAKE_TIMEOUT_MS=60000
exec /bin/leveret serve --data-dir /data/leveret --listen 127.0.0.1:5673 --http 127.0.0.1:15672
"#;

/// What QEMU boots.
pub(super) struct Guest {
    pub(super) kernel: String,
    pub(super) vmlinuz: PathBuf,
    pub(super) initrd: PathBuf,
}

impl Guest {
    /// Gets the kernel, which is kept for the next time, and packs the broker `binary`.
    ///
    /// # Errors
    /// A program is missing, or no kernel can be had.
    pub(super) fn build(binary: &Path, folder: &Path) -> Result<Guest> {
        let kernels = target_directory()?.join("reliability/kernel");
        let vmlinuz = match find(&kernels.join("boot"), "vmlinuz-") {
            Some(vmlinuz) => vmlinuz,
            None => download(&kernels)?,
        };
        let name = vmlinuz.file_name().unwrap_or_default().to_string_lossy();
        let kernel = name.trim_start_matches("vmlinuz-").to_owned();
        let root = folder.join("initrd");
        for directory in ["bin", "modules", "proc", "sys", "dev", "data", "tmp"] {
            std::fs::create_dir_all(root.join(directory))?;
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).context("busybox")?;
        succeed(Command::new("strip").arg("-o").arg(root.join("bin/leveret")).arg(binary))?;
        copy_libraries(binary, &root)?;
        for module in MODULES {
            let below = kernels.join("lib/modules").join(&kernel);
            let found = succeed(Command::new("find").arg(below).args(["-name", &format!("{module}.ko")]))?;
            std::fs::copy(found.trim(), root.join(format!("modules/{module}.ko"))).context(module)?;
        }
        let init = root.join("init");
        std::fs::write(&init, INIT.replace("MODULES", &MODULES.join(" ")))?;
        std::fs::set_permissions(&init, Permissions::from_mode(0o755))?;
        let initrd = folder.join("initrd.img");
        let pack = format!("find . | busybox cpio -o -H newc > '{}'", initrd.display());
        succeed(Command::new("sh").args(["-c", &pack]).current_dir(&root))?;
        Ok(Guest { kernel, vmlinuz, initrd })
    }
}

/// Unpacks Debian's newest kernel for virtual machines; nothing is installed.
fn download(to: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(to)?;
    let depends = succeed(Command::new("apt-cache").args(["depends", KERNEL_PACKAGE]))?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let package = package.with_context(|| format!("{KERNEL_PACKAGE} depends on no kernel"))?;
    succeed(Command::new("apt-get").args(["download", "-qq", package]).current_dir(to))?;
    let archive = find(to, package).context("no package was downloaded")?;
    succeed(Command::new("dpkg-deb").arg("-x").args([archive.as_path(), to]))?;
    std::fs::remove_file(archive)?;
    find(&to.join("boot"), "vmlinuz-").context("no kernel in the package")
}

fn find(folder: &Path, start: &str) -> Option<PathBuf> {
    let found = std::fs::read_dir(folder).ok()?.flatten();
    found
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start)))
}

/// A binary that is linked dynamically gets what it is linked with; a static one needs nothing.
fn copy_libraries(binary: &Path, root: &Path) -> Result<()> {
    let listed = Command::new("ldd").arg(binary).output().context("ldd")?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for library in listed.lines().filter_map(library_path) {
        let to = root.join(library.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().context("a library has a folder")?)?;
        std::fs::copy(library, to).with_context(|| library.to_owned())?;
    }
    Ok(())
}

/// The path in a line of `ldd`: `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, or without the name in front.
fn library_path(line: &str) -> Option<&str> {
    line.split_whitespace().find(|word| word.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_by_their_path() {
        for (line, expected) in [
            ("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x1)", Some("/lib/x86_64-linux-gnu/libc.so.6")),
            ("\t/lib64/ld-linux-x86-64.so.2 (0x1)", Some("/lib64/ld-linux-x86-64.so.2")),
            ("\tlinux-vdso.so.1 (0x1)", None),
            ("\tstatically linked", None),
        ] {
            assert_eq!(library_path(line), expected, "{line}");
        }
    }
}
