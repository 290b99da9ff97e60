//! `strace`: sees the storage calls of a broker, and lets chosen ones fail or kill it.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What changes or makes files and folders, and what makes it last.
pub(super) const STORAGE_CALLS: &str = "write,pwrite64,writev,pwritev,fdatasync,fsync,rename,renameat,renameat2,unlink,\
                                        unlinkat,ftruncate,fallocate,openat,mkdir,mkdirat,rmdir";
const ATTACH_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// `strace` on a running process. It ends with the process, or when it is dropped.
pub(super) struct Tracer {
    child: Child,
}

impl Tracer {
    /// Attaches to a whole process, and to its threads to come.
    ///
    /// # Errors
    /// The process is gone, or may not be traced.
    pub(super) fn of_process(pid: u32, options: &[String], output: &Path) -> Result<Tracer> {
        let tracer = Tracer::spawn(&["-f"], pid, options, output)?;
        wait_for(|| {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).context("the broker is gone")?;
            Ok(tasks.flatten().all(|task| is_traced(&task.path())))
        })?;
        Ok(tracer)
    }

    /// Attaches to one thread.
    ///
    /// # Errors
    /// As above.
    pub(super) fn of_thread(thread: u32, options: &[String], output: &Path) -> Result<Tracer> {
        let tracer = Tracer::spawn(&[], thread, options, output)?;
        wait_for(|| Ok(is_traced(Path::new(&format!("/proc/{thread}")))))?;
        Ok(tracer)
    }

    fn spawn(first: &[&str], task: u32, options: &[String], output: &Path) -> Result<Tracer> {
        let mut command = Command::new("strace");
        command.args(first).args(options).arg("-o").arg(output).args(["-p", &task.to_string()]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().context("strace")?;
        Ok(Tracer { child })
    }

    /// Waits for its end, which follows the broker's.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn finish(mut self) -> Result<()> {
        self.child.wait().map(drop).context("strace")
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _it_may_be_gone_already = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn wait_for(attached: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + ATTACH_MAX;
    while !attached()? {
        ensure!(Instant::now() < deadline, "strace did not attach in {ATTACH_MAX:?}");
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn is_traced(task: &Path) -> bool {
    let status = std::fs::read_to_string(task.join("status")).unwrap_or_default();
    !status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() == "0"))
}

/// The thread of a process that has this name; one that was just started is waited for.
///
/// # Errors
/// There is none.
pub(super) fn thread_named(pid: u32, name: &str) -> Result<u32> {
    let deadline = Instant::now() + ATTACH_MAX;
    loop {
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("the broker is gone")?.flatten() {
            let found = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if found.trim() == name {
                return task.file_name().to_string_lossy().parse().context("a thread's number");
            }
        }
        ensure!(Instant::now() < deadline, "the broker has no thread `{name}`");
        std::thread::sleep(POLL);
    }
}
