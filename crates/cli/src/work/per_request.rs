//! A process for each request: the body goes to stdin, what comes from stdout is the answer.
//!
//! ```text
//!             deadline, cancelled,               exited, or          stdout and stderr closed,
//!             too much output                    1 s after SIGKILL   or 200 ms later
//!   Working ───────────────► Terminating ─grace─► Killed ────► Exited ───────► done: what is left of the group dies
//!      └──────── exited ─────────┴──── exited ──────────────────►┘
//! ```
//!
//! Nothing a program does can hold us up: one that does not read its stdin, one that never closes its stdout because
//! something it started has it, one that ignores SIGTERM.

use std::future::pending;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use leveret::Failure;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::environment;
use super::group::{Census, Group, KILLED_WAIT};
use super::job::{Job, Limits, Output, Program, until};
use super::verdict::{Stopped, Tail, verdict};

/// How long after the program's own end its pipes may stay open: for the rest of a pipeline.
const LEFTOVER_WAIT: Duration = Duration::from_millis(200);
const CHUNK_BYTES: usize = 16 << 10;

/// Starts a process for each request.
#[derive(Clone, Debug)]
pub(crate) struct PerRequest {
    pub(crate) program: Program,
    pub(crate) limits: Limits,
    /// Of the answers.
    pub(crate) content_type: Option<String>,
    pub(crate) census: Census,
}

impl PerRequest {
    /// Runs the program for a request. Dropping the future ends it as the deadline does.
    ///
    /// # Errors
    /// What the exit code says, see [`verdict`]; or that we had to end it.
    pub(crate) async fn run(&self, job: Job) -> Result<Output, Failure> {
        let mut command = self.program.command();
        command.envs(environment::variables(&job)).stderr(Stdio::piped());
        let group =
            Group::start(&mut command, &self.census).map_err(|error| self.program.not_started(&error))?;
        let (told, ended) = oneshot::channel();
        // On a task of its own, which stays when nobody waits: SIGKILL comes only after the grace.
        tokio::spawn(Attended::new(group, job, self.limits, told).attend());
        let ended = ended.await.map_err(|_| Failure::internal("nobody attended to the program"))?;
        verdict(&self.program.name(), ended.stopped, ended.status, &ended.stderr)?;
        Ok(Output { body: ended.output, content_type: self.content_type.clone() })
    }
}

/// A program at work, and what has come of it so far.
struct Attended {
    group: Group,
    limits: Limits,
    phase: Phase,
    deadline: Option<Instant>,
    /// Closed when nobody waits any more.
    told: oneshot::Sender<Ended>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// The body from here on is still to be written.
    written: usize,
    body: Vec<u8>,
    output: Vec<u8>,
    tail: Tail,
}

#[derive(Clone, Copy)]
enum Phase {
    Working,
    Terminating { stopped: Stopped, kill_at: Instant },
    Killed { stopped: Stopped, lost_at: Instant },
    Exited { stopped: Option<Stopped>, status: Option<ExitStatus>, leave_at: Instant },
}

/// A program's end.
struct Ended {
    stopped: Option<Stopped>,
    status: Option<ExitStatus>,
    output: Vec<u8>,
    stderr: Tail,
}

enum Event {
    Written(io::Result<usize>),
    Output(Vec<u8>),
    Stderr(Vec<u8>),
    Exited(io::Result<ExitStatus>),
    Cancelled,
    Timer,
}

impl Attended {
    fn new(mut group: Group, job: Job, limits: Limits, told: oneshot::Sender<Ended>) -> Self {
        Self {
            stdin: group.child.stdin.take(),
            stdout: group.child.stdout.take(),
            stderr: group.child.stderr.take(),
            group,
            limits,
            phase: Phase::Working,
            deadline: job.deadline.map(Instant::from_std),
            told,
            written: 0,
            body: job.body,
            output: Vec::new(),
            tail: Tail::default(),
        }
    }

    /// Stays with the program until it has ended. What it leaves in its group is killed: a request leaves nothing
    /// running.
    async fn attend(mut self) {
        loop {
            if let Phase::Exited { stopped, status, leave_at } = self.phase
                && (self.is_silent() || Instant::now() >= leave_at)
            {
                let ended = Ended { stopped, status, output: self.output, stderr: self.tail };
                // The group goes before we tell; that nobody waits is no mistake.
                drop(self.group);
                let _ = self.told.send(ended);
                return;
            }
            let event = self.event().await;
            self.handle(event);
        }
    }

    fn is_silent(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    async fn event(&mut self) -> Event {
        let is_running = !matches!(self.phase, Phase::Exited { .. });
        let is_wanted = matches!(self.phase, Phase::Working);
        tokio::select! {
            written = write(&mut self.stdin, &self.body[self.written..]) => Event::Written(written),
            octets = read(&mut self.stdout) => Event::Output(octets),
            octets = read(&mut self.stderr) => Event::Stderr(octets),
            status = self.group.child.wait(), if is_running => Event::Exited(status),
            () = self.told.closed(), if is_wanted => Event::Cancelled,
            () = until(self.phase.timer(self.deadline)) => Event::Timer,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Written(Ok(octets)) if octets > 0 && self.written + octets < self.body.len() => {
                self.written += octets;
            }
            // All is written, or the program does not want it: not reading is no mistake.
            Event::Written(_) => self.stdin = None,
            Event::Output(octets) if octets.is_empty() => self.stdout = None,
            Event::Output(octets) => self.keep(&octets),
            Event::Stderr(octets) if octets.is_empty() => self.stderr = None,
            Event::Stderr(octets) => self.tail.push(&octets),
            Event::Exited(status) => self.exited(status.ok()),
            Event::Cancelled => self.stop(Stopped::Cancelled),
            Event::Timer => self.time_is_up(),
        }
    }

    fn keep(&mut self, octets: &[u8]) {
        let limit = self.limits.output_bytes_max;
        if self.output.len() + octets.len() <= limit {
            self.output.extend_from_slice(octets);
            return;
        }
        self.stdout = None;
        match &mut self.phase {
            Phase::Working => self.stop(Stopped::OutputBytes(limit)),
            Phase::Exited { stopped, .. } => *stopped = stopped.or(Some(Stopped::OutputBytes(limit))),
            Phase::Terminating { .. } | Phase::Killed { .. } => {}
        }
    }

    fn stop(&mut self, stopped: Stopped) {
        self.group.terminate();
        self.phase = Phase::Terminating { stopped, kill_at: Instant::now() + self.limits.grace };
    }

    fn exited(&mut self, status: Option<ExitStatus>) {
        let stopped = match self.phase {
            Phase::Working => None,
            Phase::Terminating { stopped, .. } | Phase::Killed { stopped, .. } => Some(stopped),
            Phase::Exited { stopped, .. } => stopped,
        };
        self.stdin = None;
        self.phase = Phase::Exited { stopped, status, leave_at: Instant::now() + LEFTOVER_WAIT };
    }

    fn time_is_up(&mut self) {
        match self.phase {
            Phase::Working => self.stop(Stopped::Deadline),
            Phase::Terminating { stopped, .. } => {
                self.group.kill();
                self.phase = Phase::Killed { stopped, lost_at: Instant::now() + KILLED_WAIT };
            }
            Phase::Killed { .. } => self.exited(None),
            // The loop sees that it may leave.
            Phase::Exited { .. } => {}
        }
    }
}

impl Phase {
    fn timer(&self, deadline: Option<Instant>) -> Option<Instant> {
        match self {
            Phase::Working => deadline,
            Phase::Terminating { kill_at, .. } => Some(*kill_at),
            Phase::Killed { lost_at, .. } => Some(*lost_at),
            Phase::Exited { leave_at, .. } => Some(*leave_at),
        }
    }
}

async fn write(stdin: &mut Option<ChildStdin>, octets: &[u8]) -> io::Result<usize> {
    match stdin {
        Some(stdin) if !octets.is_empty() => stdin.write(octets).await,
        Some(_) => Ok(0),
        None => pending().await,
    }
}

/// Nothing at the end; an error is one.
async fn read(pipe: &mut Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let Some(pipe) = pipe else { return pending().await };
    let mut octets = Vec::with_capacity(CHUNK_BYTES);
    match pipe.read_buf(&mut octets).await {
        Ok(_) => octets,
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use leveret::Code;

    use super::super::job::testing::{job, job_within, sh};
    use super::*;

    fn runner(script: &str) -> PerRequest {
        let limits = Limits { grace: Duration::from_millis(200), output_bytes_max: 1 << 20 };
        PerRequest {
            program: sh(script),
            limits,
            content_type: Some("text/plain".to_owned()),
            census: Census::default(),
        }
    }

    async fn answer(script: &str, job: Job) -> Result<String, Failure> {
        let output = runner(script).run(job).await?;
        assert_eq!(output.content_type.as_deref(), Some("text/plain"));
        Ok(String::from_utf8(output.body).unwrap())
    }

    async fn check(script: &str, body: &str, expected: &str) {
        let said = answer(script, job(body)).await.unwrap_or_else(|failure| failure.to_string());
        assert_eq!(said, expected, "{script}");
    }

    /// Runs, and expects this failure within this time.
    async fn check_ended(script: &str, job: Job, code: Code, within_ms: u128) {
        let begun = Instant::now();
        let failure = answer(script, job).await.unwrap_err();
        assert_eq!(failure.code, code, "{script}: {failure}");
        assert!(begun.elapsed().as_millis() < within_ms, "{script}: {:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn the_body_comes_by_stdin_and_the_answer_by_stdout() {
        check("cat", "30", "30").await;
        check("tr a-z A-Z", "$(reboot); `x`", "$(REBOOT); `X`").await;
        check("echo \"$RPC_SERVICE ${RPC_METHOD-none} $RPC_ATTEMPT\"; cat >&2", "noise", "weather none 1\n")
            .await;
        check("true", "", "").await;
    }

    #[tokio::test]
    async fn exit_codes_and_stderr_make_the_failure() {
        check("echo half; echo no such place >&2; exit 65", "", "INVALID_ARGUMENT: no such place").await;
        check("echo later >&2; exit 75", "", "UNAVAILABLE: later").await;
        check("echo one >&2; echo two >&2; exit 3", "", "INTERNAL: `sh` failed with exit code 3: two").await;
        check("kill -9 $$", "", "INTERNAL: `sh` was killed by signal 9").await;
        check_ended("no-such-command-anywhere", job(""), Code::Unimplemented, 5_000).await;
        let missing = PerRequest { program: Program::new("./no-such".into(), Vec::new()), ..runner("") };
        let failure = missing.run(job("")).await.unwrap_err();
        assert_eq!(failure.code, Code::Unimplemented);
        assert!(failure.message.starts_with("cannot start `./no-such`: "), "{failure}");
    }

    #[tokio::test]
    async fn large_bodies_flow_both_ways_at_once() {
        let body = "x".repeat(1 << 20);
        check("cat", &body, &body).await;
    }

    #[tokio::test]
    async fn a_program_need_not_read_its_stdin() {
        let body = "x".repeat(1 << 20);
        check("echo done", &body, "done\n").await;
        check("exec <&-; sleep 0.1; echo done", &body, "done\n").await;
    }

    #[tokio::test]
    async fn what_a_program_leaves_behind_does_not_hold_us_up() {
        let begun = Instant::now();
        check("sleep 60 & echo done", "", "done\n").await;
        check("setsid sleep 5 & echo done", "", "done\n").await;
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn what_it_leaves_behind_is_killed() {
        let pid = answer("sleep 60 >/dev/null 2>&1 & echo $!", job("")).await.unwrap();
        assert!(is_gone(pid.trim()).await);
    }

    #[tokio::test]
    async fn the_end_of_a_pipeline_may_come_a_moment_later() {
        check("(sleep 0.05; echo late) & echo early", "", "early\nlate\n").await;
    }

    #[tokio::test]
    async fn the_deadline_ends_the_whole_group() {
        check_ended("sleep 60", job_within("", 100), Code::DeadlineExceeded, 5_000).await;
        check_ended("sleep 60; true", job_within("", 100), Code::DeadlineExceeded, 5_000).await;
        let stubborn = "trap '' TERM; while :; do sleep 60; done";
        check_ended(stubborn, job_within("", 100), Code::DeadlineExceeded, 5_000).await;
        // It says goodbye, but its answer comes too late.
        check_ended(
            "trap 'echo late; exit 0' TERM; sleep 60 & wait",
            job_within("", 100),
            Code::DeadlineExceeded,
            5_000,
        )
        .await;
        check_ended("sleep 60", job_within("", 0), Code::DeadlineExceeded, 5_000).await;
    }

    /// Runs a script that ends with `wait_long`, drops the run, and returns what the script left in its file.
    async fn cancelled(script: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("said");
        let runner =
            runner(&format!("exec >'{}'; {script}; echo $$; sleep 60 & wait; sleep 60", file.display()));
        let census = runner.census.clone();
        let running = tokio::spawn(async move { runner.run(job("")).await });
        while !std::fs::read(&file).is_ok_and(|said| said.ends_with(b"\n")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        running.abort();
        let begun = Instant::now();
        census.none_left().await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        std::fs::read_to_string(file).unwrap()
    }

    #[tokio::test]
    async fn nobody_is_kept_working_for_a_caller_that_left() {
        let pid = cancelled("true").await;
        assert!(is_gone(pid.trim()).await);
        let said = cancelled("trap 'echo goodbye; exit' TERM").await;
        assert!(said.ends_with("\ngoodbye\n"), "{said}");
        let pid = cancelled("trap '' TERM").await;
        assert!(is_gone(pid.trim()).await);
    }

    #[tokio::test]
    async fn an_answer_has_a_size() {
        let exactly = "head -c 1048576 /dev/zero";
        assert_eq!(answer(exactly, job("")).await.unwrap().len(), 1 << 20);
        check_ended("head -c 1048577 /dev/zero", job(""), Code::ResourceExhausted, 5_000).await;
        check_ended("cat /dev/zero", job(""), Code::ResourceExhausted, 5_000).await;
    }

    #[tokio::test]
    async fn only_rpc_variables_of_this_request_are_seen() {
        check(
            "env | grep -c ^PATH=; env | grep ^RPC_ | sed 's/=.*//' | sort | tr '\\n' ' '",
            "",
            "1\nRPC_ATTEMPT RPC_DEADLINE_MS RPC_REDELIVERED RPC_SERVICE RPC_TIMEOUT_MS ",
        )
        .await;
    }

    /// A killed process is reaped a moment later, by us or by init.
    async fn is_gone(pid: &str) -> bool {
        let stat = Path::new("/proc").join(pid).join("stat");
        for _ in 0..100 {
            match std::fs::read_to_string(&stat) {
                Err(_) => return true,
                Ok(stat) if stat.contains(") Z ") => return true,
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        false
    }
}
