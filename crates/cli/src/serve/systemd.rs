//! What systemd is told: ready, reloading, stopping, alive (sd_notify(3)). Without `NOTIFY_SOCKET` nobody listens and nothing
//! is said.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A service manager that may be listening.
pub(super) struct Systemd {
    socket: Option<UnixDatagram>,
    /// How often it wants to hear that the process is alive.
    pub(super) sign_of_life: Option<Duration>,
}

impl Systemd {
    /// As the environment says.
    pub(super) fn of_environment() -> Systemd {
        let variable = |name| std::env::var(name).ok();
        let socket = variable("NOTIFY_SOCKET").and_then(|path| {
            connect(&path).inspect_err(|error| tracing::warn!(%error, path, "no NOTIFY_SOCKET")).ok()
        });
        let for_us = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let interval_us = variable("WATCHDOG_USEC").and_then(|text| text.parse().ok()).filter(|_| for_us);
        // Half of it, as sd_watchdog_enabled(3) advises.
        Systemd { socket, sign_of_life: interval_us.map(|us: u64| Duration::from_micros(us / 2)) }
    }

    /// Clients are served.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The configuration is being read again; [`Self::ready`] follows.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let now_us = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}"));
    }

    /// Clients are told to go.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    /// Waits until a sign of life is due, and gives it. Never returns when nobody wants any.
    pub(super) async fn live(&self) {
        match self.sign_of_life {
            Some(interval) => tokio::time::sleep(interval).await,
            None => std::future::pending().await,
        }
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(state.as_bytes()) {
            tracing::warn!(%error, "the service manager cannot be told");
        }
    }
}

/// A leading `@` is the abstract namespace.
fn connect(path: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    socket.connect_addr(&address)?;
    Ok(socket)
}
