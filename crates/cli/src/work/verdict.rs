//! How a program ended, as an answer: the exit codes of `sysexits.h` and the shell, in the words of the program.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use leveret::{Code, Failure};
use serde_json::json;

/// How much of the end of stderr is kept.
const TAIL_BYTES_MAX: usize = 4 << 10;

const EX_USAGE: i32 = 64;
const EX_DATAERR: i32 = 65;
const EX_TEMPFAIL: i32 = 75;
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Why we ended a program that had not ended by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stopped {
    /// Its time was up.
    Deadline,
    /// Nobody wanted the answer any more.
    Cancelled,
    /// It wrote more than this.
    OutputBytes(usize),
}

/// The last of what a program wrote to stderr.
#[derive(Default)]
pub(crate) struct Tail(Vec<u8>);

impl Tail {
    /// Adds what came next.
    pub(crate) fn push(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(octets);
        let surplus = self.0.len().saturating_sub(TAIL_BYTES_MAX);
        self.0.drain(..surplus);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// The last line with something in it, fit for a header.
    fn last_line(&self) -> Option<String> {
        let text = self.text();
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
        Some(line.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect())
    }
}

/// What an ended program means. `status` is unknown where even SIGKILL did not help.
///
/// # Errors
/// Everything but exit code 0; the message is the last line of stderr, the details have the rest.
pub(crate) fn verdict(
    program: &str,
    stopped: Option<Stopped>,
    status: Option<ExitStatus>,
    stderr: &Tail,
) -> Result<(), Failure> {
    match (stopped, status) {
        (Some(stopped), _) => Err(of_stopped(program, stopped)),
        (None, Some(status)) => of_exit(program, status, stderr),
        (None, None) => Err(Failure::internal(format!("`{program}` is lost"))),
    }
}

/// The answer where we ended the program.
pub(crate) fn of_stopped(program: &str, stopped: Stopped) -> Failure {
    match stopped {
        Stopped::Deadline => {
            Failure::new(Code::DeadlineExceeded, format!("`{program}` did not answer before the deadline"))
        }
        Stopped::Cancelled => {
            Failure::new(Code::Cancelled, format!("cancelled while `{program}` was at work"))
        }
        Stopped::OutputBytes(limit) => {
            let text = format!("the answer of `{program}` has more than {limit} octets");
            Failure::new(Code::ResourceExhausted, text).retryable(false)
        }
    }
}

fn of_exit(program: &str, status: ExitStatus, stderr: &Tail) -> Result<(), Failure> {
    let Some(exit_code) = status.code() else {
        let signal = status.signal().unwrap_or_default();
        let text = with_last_line(format!("`{program}` was killed by signal {signal}"), stderr);
        return Err(Failure::internal(text).with_details(&json!({"signal": signal, "stderr": stderr.text()})));
    };
    let said = |otherwise: &str| {
        stderr.last_line().unwrap_or_else(|| format!("`{program}` {otherwise} (exit code {exit_code})"))
    };
    let failure = match exit_code {
        0 => return Ok(()),
        EX_USAGE | EX_DATAERR => Failure::invalid_argument(said("refuses the request")),
        EX_TEMPFAIL => Failure::unavailable(said("asks to try again later")),
        NOT_FOUND => {
            let text = format!("`{program}` found no command (exit code {exit_code})");
            Failure::new(Code::Unimplemented, with_last_line(text, stderr))
        }
        NOT_EXECUTABLE => {
            let text = format!("`{program}` could not execute a command (exit code {exit_code})");
            Failure::internal(with_last_line(text, stderr))
        }
        _ => Failure::internal(with_last_line(
            format!("`{program}` failed with exit code {exit_code}"),
            stderr,
        )),
    };
    Err(failure.with_details(&json!({"exit_code": exit_code, "stderr": stderr.text()})))
}

fn with_last_line(text: String, stderr: &Tail) -> String {
    match stderr.last_line() {
        Some(line) => format!("{text}: {line}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(exit_code: i32, stderr: &str, expected: &str) {
        let mut tail = Tail::default();
        tail.push(stderr.as_bytes());
        let ended = verdict("./w", None, Some(ExitStatus::from_raw(exit_code << 8)), &tail);
        let said = ended.map_or_else(|failure| failure.to_string(), |()| "ok".to_owned());
        assert_eq!(said, expected);
    }

    #[test]
    fn exit_codes_have_meanings() {
        check(0, "noise", "ok");
        check(64, "usage: …\nno such place\n\n", "INVALID_ARGUMENT: no such place");
        check(65, "", "INVALID_ARGUMENT: `./w` refuses the request (exit code 65)");
        check(75, "database\tasleep", "UNAVAILABLE: database asleep");
        check(75, "", "UNAVAILABLE: `./w` asks to try again later (exit code 75)");
        check(
            126,
            "sh: x: denied",
            "INTERNAL: `./w` could not execute a command (exit code 126): sh: x: denied",
        );
        check(127, "", "UNIMPLEMENTED: `./w` found no command (exit code 127)");
        check(1, "", "INTERNAL: `./w` failed with exit code 1");
        check(3, "a\nb\n", "INTERNAL: `./w` failed with exit code 3: b");
    }

    #[test]
    fn a_signal_is_named_and_a_retry_says_so() {
        let killed = verdict("./w", None, Some(ExitStatus::from_raw(11)), &Tail::default()).unwrap_err();
        assert_eq!(killed.to_string(), "INTERNAL: `./w` was killed by signal 11");
        assert_eq!(killed.details, Some(json!({"signal": 11, "stderr": ""})));
        let later = verdict("./w", None, Some(ExitStatus::from_raw(75 << 8)), &Tail::default()).unwrap_err();
        assert!(later.retryable);
    }

    #[test]
    fn the_end_of_stderr_is_kept() {
        let mut tail = Tail::default();
        for _ in 0..1000 {
            tail.push(b"a line of eighteen\n");
        }
        tail.push("é".as_bytes());
        assert_eq!(tail.0.len(), TAIL_BYTES_MAX);
        assert_eq!(tail.last_line().unwrap(), "é");
    }
}
