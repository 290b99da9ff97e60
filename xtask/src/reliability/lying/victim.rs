//! Clients of ours in a process of its own, whose memory can be looked at from outside: half of them consumers, half of
//! them toolkit clients with a reply queue. They take what the broker says for what it is.
//!
//! ```text
//!   victim ── stdout: `ready` ──► campaign          stdin: a line: connect; its end: end
//! ```

use std::io::{BufRead, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use leveret_client::{ConnectOptions, Connection, Consume};
use leveret_wire::RawTable;

use crate::reliability::witness::Witness;

/// The first argument of `cargo xtask reliability` that makes it a victim.
pub(crate) const VICTIM_ARGUMENT: &str = "lied-to";
const READY: &str = "ready";
/// Longer than any lie takes: nobody connects twice.
const NEVER: Duration = Duration::from_secs(3600);

/// The process: connects so many clients, and waits for the end of its stdin.
///
/// # Errors
/// An argument is missing, or there can be no runtime.
pub(crate) fn suffer(args: &[String]) -> Result<()> {
    let [broker, count] = args else { anyhow::bail!("the address of a broker and a number") };
    let (broker, count): (SocketAddr, usize) = (broker.parse()?, count.parse()?);
    let runtime = tokio::runtime::Runtime::new()?;
    println!("{READY}");
    std::io::stdin().lock().read_line(&mut String::new())?;
    for number in 0..count {
        if number % 2 == 0 {
            runtime.spawn(consume(broker));
        } else {
            runtime.spawn(be_ready_to_call(broker));
        }
    }
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn url(broker: SocketAddr) -> String {
    format!("amqp://guest:guest@{broker}/%2f?heartbeat=0")
}

/// Whatever goes wrong is the end of this client: that is what the campaign looks for.
async fn consume(broker: SocketAddr) -> Result<()> {
    let options = ConnectOptions::parse(&url(broker))?;
    let connection = Connection::open(&options).await?;
    let channel = connection.channel().await?;
    let mut consumer = channel.consume(&Consume::queue("lies")).await?;
    while let Some(delivery) = consumer.next().await {
        std::hint::black_box(delivery.properties().headers().map(RawTable::to_table));
    }
    Ok(())
}

async fn be_ready_to_call(broker: SocketAddr) -> Result<()> {
    let patient =
        |options: ConnectOptions| options.backoff(leveret_client::Backoff { min: NEVER, max: NEVER });
    let _client = leveret::Client::builder().connection(patient).connect(&url(broker)).await?;
    std::future::pending().await
}

/// A running victim; killed when dropped.
pub(super) struct Victim(Child);

impl Victim {
    /// Starts one that is ready to connect.
    pub(super) fn start(broker: SocketAddr, count: usize) -> Result<Victim> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["reliability", VICTIM_ARGUMENT, &broker.to_string(), &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("a victim")?;
        let mut stdout = child.stdout.take().context("a piped stdout")?;
        let mut line = [0; READY.len() + 1];
        stdout.read_exact(&mut line)?;
        ensure!(line.starts_with(READY.as_bytes()), "not ready");
        Ok(Victim(child))
    }

    pub(super) fn connect(&mut self) -> Result<()> {
        let stdin = self.0.stdin.as_mut().context("a piped stdin")?;
        Ok(stdin.write_all(b"go\n")?)
    }

    pub(super) fn witness(&self) -> Witness {
        Witness::of(self.0.id())
    }

    /// Whether it still runs: a lie may end connections, never the process.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
