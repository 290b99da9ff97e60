//! Just enough HTTP to ask the management API as guest.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Asks on a connection of its own. Paths are sent as they are.
///
/// # Errors
/// There is no answer.
pub(super) fn ask(api: SocketAddr, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
    let mut socket = TcpStream::connect(api)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // A refused body need not be read by the server: what it answered counts.
    let sent = socket.write_all(&[head.as_bytes(), body].concat());
    let mut answer = Vec::new();
    let received = socket.read_to_end(&mut answer);
    let text = answer.get(..12).and_then(|line| std::str::from_utf8(line).ok());
    let status = text.and_then(|line| line.strip_prefix("HTTP/1.1 ")?.parse().ok());
    let status = status.with_context(|| format!("{method} {path}: no answer ({sent:?}, {received:?})"))?;
    let head_end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no end of the head")?;
    Ok(Answer { status, body: answer.split_off(head_end + 4) })
}

/// Asks for what has to succeed.
///
/// # Errors
/// It does not.
pub(super) fn demand(api: SocketAddr, method: &str, path: &str, body: &str) -> Result<Answer> {
    let answer = ask(api, method, path, body.as_bytes())?;
    let said = String::from_utf8_lossy(&answer.body);
    ensure!((200..300).contains(&answer.status), "{method} {path}: {} {said}", answer.status);
    Ok(answer)
}
