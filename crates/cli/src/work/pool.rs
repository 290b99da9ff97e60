//! Long-lived processes that answer one request after the other, a [line](super::line) each.
//!
//! Every process has a task that keeps it: it takes requests from the one queue of the pool while its process is well,
//! and starts another where the process died, answered nonsense, or was still busy with a request that nobody waited
//! for any more. Whatever else such a process might say could not be told from an answer to the next request.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use leveret::{Code, Failure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::environment::SERVICE_VARIABLE;
use super::group::{Census, Group};
use super::job::{Job, Limits, Output, Program, until};
use super::line;
use super::verdict::{Stopped, of_stopped};

const JSON: &str = "application/json";
const RESTART_WAIT_MIN: Duration = Duration::from_millis(100);
const RESTART_WAIT_MAX: Duration = Duration::from_secs(10);
/// From the end of its stdout to that of the process.
const EXIT_WAIT: Duration = Duration::from_millis(200);

/// A number of processes of one program.
pub(crate) struct Pool {
    name: String,
    /// As many requests wait here as the service lets in at once.
    orders: mpsc::UnboundedSender<Order>,
    closed: watch::Sender<bool>,
    census: Census,
    /// They end with the pool.
    _keepers: JoinSet<()>,
}

struct Order {
    job: Job,
    /// Closed when nobody waits any more.
    answer: oneshot::Sender<Result<Output, Failure>>,
}

/// The keepers take turns in waiting.
type Orders = Arc<Mutex<mpsc::UnboundedReceiver<Order>>>;

impl Pool {
    /// Starts `size` processes for a service.
    ///
    /// # Errors
    /// The kernel's, when one of them does not start.
    pub(crate) fn start(program: &Program, service: &str, size: usize, limits: Limits) -> io::Result<Self> {
        let (orders, queue) = mpsc::unbounded_channel();
        let (closed, closing) = watch::channel(false);
        let census = Census::default();
        let queue = Arc::new(Mutex::new(queue));
        let mut keepers = JoinSet::new();
        for _ in 0..size {
            let keeper = Keeper {
                program: program.clone(),
                service: service.to_owned(),
                limits,
                orders: Arc::clone(&queue),
                closing: closing.clone(),
                census: census.clone(),
            };
            let first = Process::start(program, service, &census)?;
            keepers.spawn(keeper.keep(first));
        }
        Ok(Self { name: program.name(), orders, closed, census, _keepers: keepers })
    }

    /// Has a process answer a request, once one is free. Dropping the future ends the process, if it has begun.
    ///
    /// # Errors
    /// What the process says; or that it died, made no sense, or did not answer in time.
    pub(crate) async fn run(&self, job: Job) -> Result<Output, Failure> {
        let deadline = job.deadline.map(Instant::from_std);
        let (answer, answered) = oneshot::channel();
        let lost = || Failure::internal(format!("nobody keeps the processes of `{}` any more", self.name));
        self.orders.send(Order { job, answer }).map_err(|_| lost())?;
        tokio::select! {
            answer = answered => answer.unwrap_or_else(|_| Err(lost())),
            () = until(deadline) => Err(of_stopped(&self.name, Stopped::Deadline)),
        }
    }

    /// Ends the processes, each when it has answered, and waits for that.
    pub(crate) async fn close(&self) {
        self.closed.send_replace(true);
        self.census.none_left().await;
    }
}

/// Keeps one process.
struct Keeper {
    program: Program,
    service: String,
    limits: Limits,
    orders: Orders,
    closing: watch::Receiver<bool>,
    census: Census,
}

/// Why a process serves no longer.
enum Left {
    /// The pool is closed.
    Closed,
    /// It has to be replaced. Whether it had answered anything: then the next one probably will.
    Unfit { was_useful: bool },
}

impl Keeper {
    async fn keep(mut self, mut process: Process) {
        let mut wait = RESTART_WAIT_MIN;
        loop {
            let left = self.serve(&mut process).await;
            let ending = process.group.end(self.limits.grace);
            match left {
                Left::Closed => {
                    ending.await;
                    return;
                }
                Left::Unfit { was_useful } => {
                    wait = if was_useful { RESTART_WAIT_MIN } else { wait };
                    // The next one need not wait for this.
                    tokio::spawn(ending);
                }
            }
            let Some(next) = self.restart(&mut wait).await else { return };
            process = next;
        }
    }

    async fn serve(&mut self, process: &mut Process) -> Left {
        let mut was_useful = false;
        loop {
            let order = tokio::select! {
                order = next(&self.orders) => order,
                _ = self.closing.wait_for(|closing| *closing) => return Left::Closed,
                status = process.group.child.wait() => {
                    let name = self.program.name();
                    tracing::warn!("`{name}` ended while it had nothing to do: {}", said(status.ok()));
                    return Left::Unfit { was_useful };
                }
            };
            let Some(order) = order else { return Left::Closed };
            if order.answer.is_closed() {
                continue;
            }
            match self.attend(process, order).await {
                Fitness::Fit => was_useful = true,
                Fitness::Unfit => return Left::Unfit { was_useful },
            }
        }
    }

    /// Has the process answer, unless its time is up first.
    async fn attend(&self, process: &mut Process, Order { job, mut answer }: Order) -> Fitness {
        let name = self.program.name();
        let (said, fitness) = tokio::select! {
            said = process.ask(&job, &name, self.limits.output_bytes_max) => said,
            () = answer.closed() => return Fitness::Unfit,
        };
        // Whether the caller still takes it is not the process's fault.
        let _ = answer.send(said);
        fitness
    }

    /// Another process, after a while that doubles each time; none when the pool is closed.
    async fn restart(&mut self, wait: &mut Duration) -> Option<Process> {
        loop {
            tokio::select! {
                () = sleep(*wait) => {}
                _ = self.closing.wait_for(|closing| *closing) => return None,
            }
            *wait = RESTART_WAIT_MAX.min(*wait * 2);
            match Process::start(&self.program, &self.service, &self.census) {
                Ok(process) => return Some(process),
                Err(error) => tracing::warn!("cannot start `{}` again: {error}", self.program.name()),
            }
        }
    }
}

async fn next(orders: &Orders) -> Option<Order> {
    orders.lock().await.recv().await
}

/// A process that waits for lines.
struct Process {
    group: Group,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    last_id: u64,
}

/// Whether a process can be asked again.
#[derive(Clone, Copy)]
enum Fitness {
    Fit,
    Unfit,
}

/// What a process wrote.
enum Line {
    Whole(Vec<u8>),
    TooLong,
    /// Nothing more will come.
    End,
}

impl Process {
    /// Its stderr is ours: it talks to the operator, not to a caller.
    fn start(program: &Program, service: &str, census: &Census) -> io::Result<Self> {
        let mut group = Group::start(program.command().env(SERVICE_VARIABLE, service), census)?;
        let pipes = (group.child.stdin.take(), group.child.stdout.take());
        let (Some(stdin), Some(stdout)) = pipes else {
            return Err(io::Error::other("the process has no pipes"));
        };
        Ok(Self { group, stdin, stdout: BufReader::new(stdout), last_id: 0 })
    }

    async fn ask(
        &mut self,
        job: &Job,
        name: &str,
        output_bytes_max: usize,
    ) -> (Result<Output, Failure>, Fitness) {
        self.last_id += 1;
        let question = match line::request_line(self.last_id, job) {
            Ok(question) => question,
            Err(failure) => return (Err(failure), Fitness::Fit),
        };
        let (line, fitness) = self.exchange(&question, output_bytes_max).await;
        let line = match line {
            Line::Whole(line) => line,
            Line::TooLong => {
                return (Err(of_stopped(name, Stopped::OutputBytes(output_bytes_max))), Fitness::Unfit);
            }
            Line::End => return (Err(self.died(name).await), Fitness::Unfit),
        };
        match line::answer(self.last_id, &line) {
            Ok(answer) => (answer.map(|body| Output { body, content_type: Some(JSON.to_owned()) }), fitness),
            Err(why) => (Err(Failure::internal(format!("`{name}` makes no sense: {why}"))), Fitness::Unfit),
        }
    }

    /// Writes and reads at once. A process that answers before it has read everything would take the rest of the
    /// question for the next.
    async fn exchange(&mut self, question: &[u8], output_bytes_max: usize) -> (Line, Fitness) {
        let mut reading = pin!(read_line(&mut self.stdout, output_bytes_max));
        let mut rest = question;
        while !rest.is_empty() {
            tokio::select! {
                line = &mut reading => return (line, Fitness::Unfit),
                written = self.stdin.write(rest) => match written {
                    Ok(octets) if octets > 0 => rest = &rest[octets..],
                    // It does not listen any more, but it may have said something.
                    _ => return (timeout(EXIT_WAIT, reading).await.unwrap_or(Line::End), Fitness::Unfit),
                },
            }
        }
        (reading.await, Fitness::Fit)
    }

    async fn died(&mut self, name: &str) -> Failure {
        let status = timeout(EXIT_WAIT, self.group.child.wait()).await.ok().and_then(Result::ok);
        Failure::new(Code::Internal, format!("`{name}` ended instead of answering: {}", said(status)))
    }
}

fn said(status: Option<std::process::ExitStatus>) -> String {
    status.map_or_else(|| "it closed its stdout".to_owned(), |status| status.to_string())
}

async fn read_line(stdout: &mut BufReader<ChildStdout>, bytes_max: usize) -> Line {
    let mut line = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    match stdout.take(limit).read_until(b'\n', &mut line).await {
        Ok(_) if line.ends_with(b"\n") => Line::Whole(line),
        Ok(_) if line.len() > bytes_max => Line::TooLong,
        Ok(_) | Err(_) => Line::End,
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::testing::{job, job_within, sh};
    use super::*;

    /// Does what the body says.
    const OBEY: &str = r#"
        while read -r line; do
            id=${line#*:}; id=${id%%,*}
            case $line in
                *'"pid"'*) echo "{\"id\":$id,\"result\":$$}";;
                *'"fail"'*) echo "{\"id\":$id,\"error\":{\"code\":\"NOT_FOUND\",\"message\":\"no\"}}";;
                *'"die"'*) exit 3;;
                *'"hang"'*) sleep 60;;
                *'"babble"'*) echo ready;;
                *'"flood"'*) head -c 1000000 /dev/zero | tr '\0' x;;
                *'"mute"'*) exec >&-; sleep 60;;
                *'"nap"'*) sleep 0.5; echo "{\"id\":$id,\"result\":$$}";;
                *) echo "{\"id\":$id,\"result\":\"$RPC_SERVICE\"}";;
            esac
        done"#;

    fn pool_of(script: &str, size: usize) -> Pool {
        let limits = Limits { grace: Duration::from_millis(200), output_bytes_max: 1 << 16 };
        Pool::start(&sh(script), "weather", size, limits).unwrap()
    }

    async fn ask(pool: &Pool, job: Job) -> String {
        match pool.run(job).await {
            Ok(output) => {
                assert_eq!(output.content_type.as_deref(), Some(JSON));
                String::from_utf8(output.body).unwrap()
            }
            Err(failure) => failure.to_string(),
        }
    }

    async fn pid(pool: &Pool) -> u32 {
        let said = ask(pool, job("\"pid\"")).await;
        said.parse().unwrap_or_else(|_| panic!("{said}"))
    }

    #[tokio::test]
    async fn a_process_answers_one_request_after_the_other() {
        let pool = pool_of(OBEY, 1);
        let first = pid(&pool).await;
        for body in ["1", "{\"a\":\n1}", "not json", ""] {
            assert_eq!(ask(&pool, job(body)).await, "\"weather\"", "{body}");
        }
        assert_eq!(ask(&pool, job("\"fail\"")).await, "NOT_FOUND: no");
        assert_eq!(pid(&pool).await, first);
        pool.close().await;
    }

    #[tokio::test]
    async fn requests_run_side_by_side_on_different_processes() {
        let pool = pool_of(OBEY, 2);
        let (one, other) = tokio::join!(ask(&pool, job("\"nap\"")), ask(&pool, job("\"nap\"")));
        assert_ne!(one, other);
    }

    /// Asks for something after which another process must answer the next request.
    async fn check_replaced(job: Job, expected: &str) {
        let pool = pool_of(OBEY, 1);
        let first = pid(&pool).await;
        let body = String::from_utf8(job.body.clone()).unwrap();
        let said = ask(&pool, job).await;
        assert!(said.starts_with(expected), "{body}: {said}");
        assert_ne!(pid(&pool).await, first, "{body}");
    }

    #[tokio::test]
    async fn a_process_that_is_not_fit_is_replaced() {
        check_replaced(job("\"die\""), "INTERNAL: `sh` ended instead of answering: exit status: 3").await;
        check_replaced(job("\"mute\""), "INTERNAL: `sh` ended instead of answering: it closed its stdout")
            .await;
        check_replaced(job("\"babble\""), "INTERNAL: `sh` makes no sense: \"ready\" is no answer: ").await;
        check_replaced(job("\"flood\""), "RESOURCE_EXHAUSTED: the answer of `sh` has more than 65536").await;
        check_replaced(job_within("\"hang\"", 200), "DEADLINE_EXCEEDED: `sh` did not answer before").await;
    }

    #[tokio::test]
    async fn a_process_does_not_go_on_for_a_caller_that_left() {
        let pool = pool_of(OBEY, 1);
        let first = pid(&pool).await;
        assert!(timeout(Duration::from_millis(200), pool.run(job("\"hang\""))).await.is_err());
        assert_ne!(pid(&pool).await, first);
    }

    #[tokio::test]
    async fn a_process_that_dies_idle_costs_no_request() {
        let pool = pool_of(OBEY, 1);
        let first = pid(&pool).await;
        let id = i32::try_from(first).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
        while is_there(first) {
            sleep(Duration::from_millis(10)).await;
        }
        assert_ne!(pid(&pool).await, first);
    }

    #[tokio::test]
    async fn a_request_waits_for_a_free_process_no_longer_than_its_deadline() {
        let pool = pool_of(OBEY, 1);
        let (napped, late) = tokio::join!(ask(&pool, job("\"nap\"")), async {
            sleep(Duration::from_millis(50)).await;
            ask(&pool, job_within("\"pid\"", 100)).await
        });
        assert!(late.starts_with("DEADLINE_EXCEEDED"), "{late}");
        // Nobody began with it, so the process is still the same.
        assert_eq!(pid(&pool).await.to_string(), napped);
    }

    #[tokio::test]
    async fn an_answer_before_the_question_is_read_is_taken_but_not_trusted() {
        let pool = pool_of(r#"echo "{\"id\":1,\"result\":$$}"; sleep 60"#, 1);
        let body = format!("\"{}\"", "x".repeat(1 << 20));
        let first = ask(&pool, job(&body)).await;
        assert!(first.parse::<u32>().is_ok(), "{first}");
        assert_ne!(ask(&pool, job(&body)).await, first);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_noticed_at_once() {
        let program = Program::new("./no-such".into(), Vec::new());
        let error = Pool::start(&program, "weather", 1, Limits::default()).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_closed_pool_leaves_nothing_running() {
        let pool = pool_of(OBEY, 2);
        let pid = pid(&pool).await;
        pool.close().await;
        assert!(!is_there(pid));
    }

    /// Until it is reaped.
    fn is_there(pid: u32) -> bool {
        std::path::Path::new("/proc").join(pid.to_string()).exists()
    }
}
