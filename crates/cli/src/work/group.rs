//! A program with everything it starts: one process group, ended as a whole; and how many of them there are.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

/// After SIGKILL only the kernel itself can keep a process, in an operation that cannot be interrupted. We do not wait
/// for that one.
pub(crate) const KILLED_WAIT: Duration = Duration::from_secs(1);

/// A running program. Dropped, the whole group is killed.
pub(crate) struct Group {
    /// Its first process; take the pipes from here.
    pub(crate) child: Child,
    id: Option<Pid>,
    _counted: Counted,
}

/// Counts the groups, so that we do not end before they have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Census(watch::Sender<usize>);

struct Counted(watch::Sender<usize>);

impl Census {
    /// Returns when there is no group any more.
    pub(crate) async fn none_left(&self) {
        // The sender is ours, so the channel is open.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }

    fn counted(&self) -> Counted {
        self.0.send_modify(|count| *count += 1);
        Counted(self.0.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Group {
    /// Starts a command that [`process_group(0)`](Command::process_group) puts into a group of its own.
    ///
    /// # Errors
    /// The kernel's, e.g. that there is no such program.
    pub(crate) fn start(command: &mut Command, census: &Census) -> io::Result<Self> {
        let child = command.spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { child, id, _counted: census.counted() })
    }

    /// Asks every process of the group to end.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends every process of the group.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Asks, waits, insists. Returns when the first process is gone.
    pub(crate) async fn end(mut self, grace: Duration) -> Option<ExitStatus> {
        self.child.stdin = None;
        self.terminate();
        if let Ok(status) = timeout(grace, self.child.wait()).await {
            return status.ok();
        }
        self.kill();
        timeout(KILLED_WAIT, self.child.wait()).await.ok()?.ok()
    }

    /// The group may be gone already, which is what we want. Its number is not another's yet: the kernel goes through all
    /// the others before it uses one again.
    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            let _ = kill_process_group(id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
