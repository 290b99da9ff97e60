//! A worker in a process of its own, which can be killed.
//!
//! ```text
//!   campaign ── stdin: its end ends the process ──▶ worker process
//!            ◀── stdout: `b ID` begun, `d ID` done, one write each: what is in the pipe survives a kill
//! ```

use anyhow::{Context, Result};
use leveret::Client;
use leveret_client::Backoff;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::job::{Diary, FRAGILE, Mark, WORK, serve};
use super::quiet_panics;

/// The first argument of `cargo xtask reliability` that makes it a worker.
pub(crate) const WORKER_ARGUMENT: &str = "toolkit-worker";
/// What the worker process answers.
pub(super) const PROCESS: &str = "process";
const RETRY: Duration = Duration::from_millis(50);

/// Connects with the short times of a campaign.
pub(super) async fn connect(name: &str, broker: SocketAddr) -> Result<Client> {
    let backoff = Backoff { min: Duration::from_millis(20), max: Duration::from_millis(500) };
    let adjust = move |options: leveret::ConnectOptions| {
        options.heartbeat(Duration::from_secs(1)).connect_timeout(Duration::from_secs(2)).backoff(backoff)
    };
    let client = Client::builder().app_id(name).connection(adjust);
    Ok(client.connect(&format!("amqp://guest:guest@{broker}/%2f")).await?)
}

/// The worker process: serves until its stdin ends.
///
/// # Errors
/// The address is none, or there can be no runtime.
pub(crate) fn work(args: &[String]) -> Result<()> {
    let broker: SocketAddr = args.first().context("the address of a broker")?.parse()?;
    quiet_panics();
    std::thread::spawn(|| {
        let _its_end = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    tokio::runtime::Runtime::new()?.block_on(serve_both(broker))
}

async fn serve_both(broker: SocketAddr) -> Result<()> {
    let diary: Diary = Arc::new(|mark, id| {
        let line = match mark {
            Mark::Begun => format!("b {id}\n"),
            Mark::Done => format!("d {id}\n"),
        };
        // Without a reader there is no campaign any more.
        if std::io::stdout().write_all(line.as_bytes()).is_err() {
            std::process::exit(0);
        }
    });
    // A worker that starts in the middle of a fault finds no broker.
    let client = loop {
        match connect("campaign-process", broker).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    };
    let mut workers = Vec::new();
    for service in [WORK, FRAGILE] {
        workers.push(loop {
            match serve(&client, service, PROCESS, diary.clone()).await {
                Ok(worker) => break worker,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        });
    }
    std::future::pending().await
}

/// A running worker process; killed when dropped.
pub(super) struct WorkerProcess {
    child: Child,
}

impl WorkerProcess {
    /// Starts one; what it notes goes to the diary.
    pub(super) fn start(broker: SocketAddr, diary: Diary) -> Result<WorkerProcess> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["reliability", WORKER_ARGUMENT, &broker.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("a worker process")?;
        let stdout = child.stdout.take().context("a piped stdout")?;
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                match line.split_once(' ') {
                    Some(("b", id)) => diary(Mark::Begun, id),
                    Some(("d", id)) => diary(Mark::Done, id),
                    _ => {}
                }
            }
        });
        Ok(WorkerProcess { child })
    }

    /// `kill -9`. It is gone when this returns.
    pub(super) fn kill(&mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Whether it still runs.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _it_may_be_gone_already = self.kill();
    }
}
