//! A disk that writes down what it is asked for.
//!
//! ```text
//!   broker → ext4 or XFS → loop device → file that is a FUSE export → blklogwrites ─► disk.img
//!                                                                              └────► writes.log
//! ```
//!
//! All of it without device-mapper, which many kernels lack. `qemu-storage-daemon` handles one request after the other.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::disks::{FileSystem, LoopDevice, Mount, succeed};
use super::super::journal::Clock;
use super::write_log::WriteLog;

/// Sparse: only what is written takes room.
const LOG_BYTES: u64 = 8 << 30;
const START_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// Fields are dropped in their order: nothing is pulled from under what uses it.
pub(super) struct Recorder {
    mount: Mount,
    device: LoopDevice,
    daemon: Daemon,
    log: PathBuf,
}

impl Recorder {
    /// Makes a disk with an empty file system in `folder` and mounts it there.
    ///
    /// # Errors
    /// One of the programs is missing, or there is no `/dev/fuse` or no free loop device.
    pub(super) fn start(file_system: FileSystem, size_bytes: u64, folder: &Path) -> Result<Recorder> {
        let [disk, log, export] = ["disk.img", "writes.log", "export"].map(|name| folder.join(name));
        File::create(&disk)?.set_len(size_bytes)?;
        File::create(&log)?.set_len(LOG_BYTES)?;
        File::create(&export)?;
        let daemon = Daemon::start(&disk, &log, &export)?;
        let device = LoopDevice::attach(&export)?;
        file_system.make(device.path())?;
        let mount = Mount::new(file_system, device.path(), &folder.join("mnt"))?;
        Ok(Recorder { mount, device, daemon, log })
    }

    pub(super) fn mount_point(&self) -> &Path {
        self.mount.path()
    }

    /// Tells how many entries the log has.
    pub(super) fn clock(&self) -> Result<Clock> {
        let mut log = WriteLog::open(&self.log)?;
        Ok(Box::new(move || log.catch_up().expect("a file in memory that is open can be read")))
    }

    /// Unmounts, and returns all that was written.
    pub(super) fn finish(self) -> Result<WriteLog> {
        let Recorder { mount, device, daemon, log } = self;
        drop((mount, device));
        daemon.stop()?;
        WriteLog::open(&log)?.complete()
    }
}

/// `qemu-storage-daemon`. Dropping it kills it.
struct Daemon {
    process: Child,
    export: PathBuf,
}

impl Daemon {
    fn start(disk: &Path, log: &Path, export: &Path) -> Result<Daemon> {
        let option = |text: &str, path: &Path| format!("{text}={}", path.display());
        let child = Command::new("qemu-storage-daemon")
            .args(["--blockdev", &option("driver=file,node-name=disk,filename", disk)])
            .args(["--blockdev", &option("driver=file,node-name=log,filename", log)])
            .args(["--blockdev", "driver=blklogwrites,node-name=both,file=disk,log=log,log-sector-size=512"])
            .args(["--export", &option("type=fuse,id=export,node-name=both,writable=on,mountpoint", export)])
            .stdin(Stdio::null())
            .spawn()
            .context("qemu-storage-daemon")?;
        let mut daemon = Daemon { process: child, export: export.to_owned() };
        let deadline = Instant::now() + START_MAX;
        // The export appears over an empty file.
        while std::fs::metadata(export).is_ok_and(|meta| meta.len() == 0) {
            ensure!(Instant::now() < deadline, "qemu-storage-daemon exports nothing after {START_MAX:?}");
            ensure!(daemon.process.try_wait()?.is_none(), "qemu-storage-daemon ended");
            std::thread::sleep(POLL);
        }
        Ok(daemon)
    }

    fn stop(mut self) -> Result<()> {
        succeed(Command::new("kill").args(["-TERM", &self.process.id().to_string()]))?;
        let status = self.process.wait()?;
        ensure!(status.success(), "qemu-storage-daemon: {status}");
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _it_may_be_gone_already = self.process.kill();
        let _it_was_ours = self.process.wait();
        // A daemon that was killed leaves a mount behind that leads nowhere, and holds what is around it.
        let _it_may_be_unmounted_already = Command::new("umount").arg("-l").arg(&self.export).output();
    }
}
