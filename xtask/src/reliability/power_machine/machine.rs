//! A virtual machine whose power is a process.

use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::guest::Guest;

/// An emulated processor boots in 5 s if it has a real one for itself.
const BOOT_MAX: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(20);
/// What the broker says on the console when it serves.
const READY: &str = "amqp://";
const LOG_BYTES: usize = 2000;

/// A machine that serves. Dropping it cuts its power.
pub(super) struct Machine {
    qemu: Child,
    address: SocketAddr,
}

impl Machine {
    /// Boots from `disk` and waits for the broker; `serial` is its console.
    ///
    /// # Errors
    /// QEMU ends, or nobody serves in time: with the end of the console.
    pub(super) fn boot(guest: &Guest, disk: &Path, serial: &Path) -> Result<Machine> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let qemu = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-cpu", "qemu64", "-m", "512", "-no-reboot"])
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(&guest.vmlinuz)
            .arg("-initrd")
            .arg(&guest.initrd)
            // A host that is busy looks like a timer that does not work.
            .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check"])
            .args(["-drive", &format!("file={},if=virtio,format=raw,cache=writeback", disk.display())])
            .args(["-netdev", &format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:5672")])
            .args(["-device", "virtio-net-pci,netdev=net"])
            .stdin(Stdio::null())
            .stdout(File::create(serial)?)
            .stderr(Stdio::inherit())
            .spawn()
            .context("qemu-system-x86_64")?;
        let mut machine = Machine { qemu, address: (Ipv4Addr::LOCALHOST, port).into() };
        machine.wait_ready(serial).with_context(|| end_of(serial))?;
        Ok(machine)
    }

    fn wait_ready(&mut self, serial: &Path) -> Result<()> {
        let begin = Instant::now();
        while !String::from_utf8_lossy(&std::fs::read(serial)?).contains(READY) {
            ensure!(begin.elapsed() < BOOT_MAX, "failed start: nobody serves after {BOOT_MAX:?}");
            if let Some(status) = self.qemu.try_wait()? {
                bail!("failed start: the machine ended, {status}");
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGKILL.
    pub(super) fn kill(mut self) -> Result<()> {
        self.qemu.kill()?;
        self.qemu.wait()?;
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _it_may_be_gone_already = self.qemu.kill();
        let _it_was_ours = self.qemu.wait();
    }
}

fn end_of(serial: &Path) -> String {
    let text = std::fs::read(serial).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_BYTES)..]).into_owned()
}
