//! What a program is asked, and what it says.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use leveret::Failure;
use rustix::fs::{Access, access};
use tokio::process::Command;

/// What every `RPC_…` variable begins with. Those of our own surroundings are not the program's.
pub(crate) const VARIABLE_PREFIX: &str = "RPC_";

/// A request on its way to a program.
pub(crate) struct Job {
    /// The service it came to.
    pub(crate) service: String,
    /// What is asked for, if the service has many methods.
    pub(crate) method: Option<String>,
    /// The octets, as the program shall see them.
    pub(crate) body: Vec<u8>,
    /// What they are.
    pub(crate) content_type: Option<String>,
    /// The same for every attempt of a caller.
    pub(crate) message_id: Option<String>,
    /// Pairs the answer with the request.
    pub(crate) correlation_id: Option<String>,
    /// Where the answer goes.
    pub(crate) reply_to: Option<String>,
    /// The work is of no use after this.
    pub(crate) deadline: Option<Instant>,
    /// 1 for the first.
    pub(crate) attempt: u32,
    /// Whether the broker has delivered it before.
    pub(crate) redelivered: bool,
    /// W3C trace context.
    pub(crate) traceparent: Option<String>,
    /// The headers that are text.
    pub(crate) headers: Vec<(String, String)>,
}

/// The answer of a program.
#[derive(Debug, PartialEq)]
pub(crate) struct Output {
    /// The octets.
    pub(crate) body: Vec<u8>,
    /// What they are, if that is known.
    pub(crate) content_type: Option<String>,
}

/// What every kind of runner keeps to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From SIGTERM to SIGKILL.
    pub(crate) grace: Duration,
    /// Of one answer.
    pub(crate) output_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { grace: Duration::from_secs(2), output_bytes_max: 16 << 20 }
    }
}

/// A command line, to be run without a shell: nothing of a request is ever part of it.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    path: OsString,
    arguments: Vec<OsString>,
}

impl Program {
    /// The program (a path, or a name to be found in `PATH`) and its arguments.
    pub(crate) fn new(path: OsString, arguments: Vec<OsString>) -> Self {
        Self { path, arguments }
    }

    /// What messages call it.
    pub(crate) fn name(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Whether there is such a program, for us to execute. What it begins with may still be missing.
    ///
    /// # Errors
    /// The kernel's, about the path or the last place in `PATH`.
    pub(crate) fn check(&self) -> io::Result<()> {
        let path = Path::new(&self.path);
        if path.components().nth(1).is_some() {
            return Ok(access(path, Access::EXEC_OK)?);
        }
        let places = std::env::var_os("PATH").unwrap_or_default();
        let is_there = |place: PathBuf| access(place.join(path), Access::EXEC_OK).is_ok();
        match std::env::split_paths(&places).any(is_there) {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::NotFound, "it is nowhere in PATH")),
        }
    }

    /// The command: in a process group of its own, so that everything it starts can be ended with it; with our
    /// environment but for `RPC_…`; its stdin and stdout are pipes.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(name)) {
            command.env_remove(name);
        }
        command
    }

    /// The answer to a request for which the program did not even start.
    pub(crate) fn not_started(&self, error: &io::Error) -> Failure {
        let text = format!("cannot start `{}`: {error}", self.name());
        match error.kind() {
            io::ErrorKind::NotFound => Failure::new(leveret::Code::Unimplemented, text),
            _ => Failure::internal(text),
        }
    }
}

fn is_ours(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(VARIABLE_PREFIX.as_bytes())
}

/// Waits for a time; without one, for ever.
pub(crate) async fn until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The deadline as other programs can read it: Unix milliseconds.
pub(crate) fn unix_ms(deadline: Instant) -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now + deadline.saturating_duration_since(Instant::now())).as_millis()
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A program of the shell.
    pub(crate) fn sh(script: &str) -> Program {
        program("sh", script)
    }

    /// A program for another interpreter with `-c`.
    pub(crate) fn program(interpreter: &str, script: &str) -> Program {
        Program::new(interpreter.into(), vec!["-c".into(), script.into()])
    }

    /// A request with nothing but a body, and 20 s.
    pub(crate) fn job(body: &str) -> Job {
        Job {
            service: "weather".to_owned(),
            method: None,
            body: body.as_bytes().to_vec(),
            content_type: None,
            message_id: None,
            correlation_id: None,
            reply_to: None,
            deadline: Some(Instant::now() + Duration::from_secs(20)),
            attempt: 1,
            redelivered: false,
            traceparent: None,
            headers: Vec::new(),
        }
    }

    /// The same with less time.
    pub(crate) fn job_within(body: &str, time_ms: u64) -> Job {
        Job { deadline: Some(Instant::now() + Duration::from_millis(time_ms)), ..job(body) }
    }
}
