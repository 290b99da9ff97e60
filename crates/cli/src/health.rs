//! `leveret health`: whether a broker can be used, for containers and scripts that have no HTTP client.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::toolkit::duration;

/// An answer is a short sentence.
const ANSWER_MAX_BYTES: u64 = 64 << 10;

/// Ask a broker whether it is ready: exit code 0, or 1 and why not
///
/// Asks /health/ready of its HTTP listener, without a login.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where the broker speaks HTTP; of several, separated by commas, the first
    #[arg(long, value_name = "HOST:PORT", env = "LEVERET_HTTP", default_value = "127.0.0.1:15672")]
    http: String,
    /// Ask whether it is alive, which it also is while it starts and drains
    #[arg(long)]
    live: bool,
    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    timeout: Duration,
}

/// Asks once.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let path = if arguments.live { "/health/live" } else { "/health/ready" };
    let asked = timeout(arguments.timeout, ask(&arguments.http, path)).await;
    let (status, body) = asked.with_context(|| format!("{}: no answer", arguments.http))??;
    writeln!(std::io::stdout(), "{}", body.trim_end()).context("stdout")?;
    if status == 200 { Ok(()) } else { Err(Failure::Nothing) }
}

async fn ask(http: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let first = http.split(',').next().unwrap_or(http).trim();
    let found = lookup_host(first).await.with_context(|| first.to_owned())?.next();
    let address = reachable(found.with_context(|| format!("{first}: no such host"))?);
    let mut socket = TcpStream::connect(address).await.with_context(|| format!("http://{address}"))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.take(ANSWER_MAX_BYTES).read_to_end(&mut answer).await?;
    parse(&String::from_utf8_lossy(&answer))
}

/// `0.0.0.0` is where a broker listens, not where it is.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

fn parse(answer: &str) -> anyhow::Result<(u16, String)> {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("that is no HTTP server") };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.context("that is no HTTP server")?, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_listens_is_not_where_it_is() {
        let check = |from: &str, to: &str| assert_eq!(reachable(from.parse().unwrap()).to_string(), to);
        check("0.0.0.0:1", "127.0.0.1:1");
        check("[::]:1", "[::1]:1");
        check("10.1.1.1:1", "10.1.1.1:1");
    }

    #[test]
    fn an_answer_has_a_status() {
        let body = |text: &str| parse(text).map(|(status, body)| format!("{status} {body}")).ok();
        assert_eq!(body("HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\nno").as_deref(), Some("503 no"));
        assert_eq!(body("SSH-2.0\r\n\r\n"), None);
        assert_eq!(body(""), None);
    }
}
