//! Too few of something (scorecard rows 19 and 21): memory, file descriptors, a fast disk.
//!
//! ```text
//!   memory   a cgroup of 256 MiB, publishers without consumers   never killed, ≤ 90 % resident, blocked, consumers served
//!   files    RLIMIT_NOFILE=256, 1,000 connects                   who is in goes on, little CPU, back in 2 s
//!   churn    many connections, one after the other               no leak
//!   disk     every fdatasync takes 500 ms                        confirms are slow, heartbeats are not missed
//! ```

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use leveret_testkit::supervisor::Server;
use leveret_wire::method::{BasicPublish, QueueDeclare, QueuePurge};

use super::Plan;
use super::bystander::Bystander;
use super::client::{Client, Ended, Event};
use super::message::Message;
use super::site::Site;
use super::strace::Tracer;
use super::verdict::Verdict;
use super::witness::Witness;

const QUEUE: &str = "reliability.scarce";

const MEMORY_BYTES: u64 = 256 << 20;
const RESIDENT_MAX_BYTES: u64 = MEMORY_BYTES / 10 * 9;
const SIZES: [usize; 2] = [1 << 10, 1 << 20];
const IN_FLIGHT_MAX: u64 = 200;
/// Bodies above this are sent one by one: the client is not what is tested.
const LARGE_BYTES: usize = 16 << 10;
/// The disk of the machine is not what is tested.
const BACKLOG_MAX_BYTES: u64 = 2 << 30;
const TICK: Duration = Duration::from_millis(20);
const QUIET: Duration = Duration::from_millis(200);

const FILES: u64 = 256;
const CONNECTS: usize = 1000;
const FULL_TIME: Duration = Duration::from_secs(2);
/// Of one processor, while nobody can be let in.
const CPU_MAX: f64 = 0.25;
const BACK_MAX: Duration = Duration::from_secs(2);
const LEAK_MAX_BYTES: u64 = 24 << 20;
const FILES_MORE_MAX: usize = 8;

const SYNC_DELAY_US: u64 = 500_000;
const HEARTBEAT_S: u16 = 1;
const SLOW_TIME: Duration = Duration::from_secs(6);

/// Row 19.
pub(super) fn run_memory(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let group = MemoryGroup::make()?;
    let setup = format!("echo $$ > {}/cgroup.procs", group.folder.display());
    let server = site.behind("little-memory", &setup)?.start().context("failed start")?;
    let time = Duration::from_secs(plan.rounds_at([10, 600, 600]) / SIZES.len() as u64);
    for size_bytes in SIZES {
        flood(&server, size_bytes, time, verdict)
            .with_context(|| format!("bodies of {size_bytes} octets"))?;
    }
    verdict.demand(group.kills()? == 0, "killed for its memory", group.kills()?);
    server.kill()?;
    Ok(())
}

/// A control group (version 1) with a limit of memory. Removed when it is dropped.
struct MemoryGroup {
    folder: PathBuf,
}

impl MemoryGroup {
    fn make() -> Result<MemoryGroup> {
        let root = Path::new("/sys/fs/cgroup/memory");
        ensure!(root.join("cgroup.procs").exists(), "there is no control group for memory (version 1) here");
        let folder = root.join(format!("leveret-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let group = MemoryGroup { folder };
        std::fs::write(group.folder.join("memory.limit_in_bytes"), MEMORY_BYTES.to_string())?;
        Ok(group)
    }

    fn kills(&self) -> Result<u64> {
        let text = std::fs::read_to_string(self.folder.join("memory.oom_control"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.context("no oom_kill")?.trim().parse().context("oom_kill")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Its last process may be a moment from being gone.
        for _ in 0..50 {
            if std::fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(TICK);
        }
    }
}

/// Publishes as fast as it is confirmed, with nobody to consume; then everything is consumed.
fn flood(server: &Server, size_bytes: usize, time: Duration, verdict: &mut Verdict) -> Result<()> {
    let witness = Witness::of(server.pid());
    let mut client = Client::open(server.address())?;
    client.call(QueueDeclare { queue: QUEUE, durable: true, ..Default::default() })?;
    client.select_confirms()?;
    // It publishes nothing, so it is never blocked.
    let mut other = Client::open(server.address())?;
    let body = Message::new(1, 1).body_of(size_bytes);
    let properties = Message::new(1, 1).properties();
    let (begin, mut looked) = (Instant::now(), Instant::now());
    let (mut published, mut confirmed, mut peak, mut slowest) = (0_u64, 0_u64, 0, Duration::ZERO);
    while begin.elapsed() < time {
        while published - confirmed < IN_FLIGHT_MAX {
            client.publish(BasicPublish { routing_key: QUEUE, ..Default::default() }, &properties, &body)?;
            published += 1;
            if size_bytes > LARGE_BYTES {
                client.flush()?;
            }
        }
        client.flush()?;
        let mut event = client.next(TICK)?;
        while let Some(arrived) = event {
            match arrived {
                Event::Confirm { tag, multiple: true, .. } => confirmed = tag,
                Event::Confirm { .. } => confirmed += 1,
                _ => {}
            }
            event = client.next_buffered()?;
        }
        if looked.elapsed() > QUIET {
            looked = Instant::now();
            peak = witness.resident_bytes()?.max(peak);
            let asked = Instant::now();
            let count = other.call(QueueDeclare { queue: QUEUE, passive: true, ..Default::default() })?;
            slowest = slowest.max(asked.elapsed());
            if u64::from(count) * size_bytes as u64 > BACKLOG_MAX_BYTES {
                other.call(QueuePurge { queue: QUEUE, ..Default::default() })?;
            }
        }
    }
    verdict.count("messages", confirmed);
    verdict.fact(format!(
        "bodies of {size_bytes} octets: {confirmed} confirmed ({} MiB), up to {} MiB resident; others waited {} ms at most",
        (confirmed * size_bytes as u64) >> 20,
        peak >> 20,
        slowest.as_millis()
    ));
    verdict.demand(peak <= RESIDENT_MAX_BYTES, "memory", format!("{peak} octets resident"));
    verdict.demand(confirmed > 0, "nothing is confirmed", size_bytes);
    client.call(QueuePurge { queue: QUEUE, ..Default::default() })?;
    Ok(())
}

/// Row 21.
pub(super) fn run_files(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let server = site.behind("few-files", &format!("ulimit -n {FILES}"))?.start().context("failed start")?;
    run_out_of_files(&server, verdict).context("no descriptors left")?;
    churn(&server, plan.rounds_at([3000, 100_000, 100_000]), verdict).context("churn")?;
    server.kill()?;
    let server = site.start().context("failed start")?;
    on_a_slow_disk(server, site, verdict).context("slow disk")
}

fn run_out_of_files(server: &Server, verdict: &mut Verdict) -> Result<()> {
    let stop = AtomicBool::new(false);
    let bystander = Bystander::open(server.address())?;
    let (cpu, back, waited) = std::thread::scope(|scope| -> Result<_> {
        let others = scope.spawn(|| bystander.round_trips(&stop, TICK));
        let seen = crowd_in(server);
        stop.store(true, Ordering::Relaxed);
        let waited = others.join().map_err(|_| anyhow::anyhow!("the bystander panicked"))??;
        let (cpu, back) = seen?;
        Ok((cpu, back, waited.last().copied().unwrap_or_default()))
    })?;
    verdict.count("connects without a descriptor", CONNECTS as u64 - FILES);
    verdict.fact(format!(
        "{CONNECTS} connects at {FILES} descriptors: {:.0} % of a processor, somebody is let in {} ms after they are gone; a \
         publisher who was in waited {} ms at most",
        cpu * 100.0,
        back.as_millis(),
        waited.as_millis()
    ));
    verdict.demand(cpu <= CPU_MAX, "a busy loop", format!("{cpu:.2} processors"));
    verdict.demand(back <= BACK_MAX, "not back in time", format!("{back:?}"));
    Ok(())
}

/// Processors used while more want in than can be, and how long after they are gone somebody is let in.
fn crowd_in(server: &Server) -> Result<(f64, Duration)> {
    let witness = Witness::of(server.pid());
    let crowd: Vec<TcpStream> =
        (0..CONNECTS).map_while(|_| TcpStream::connect(server.address()).ok()).collect();
    std::thread::sleep(FULL_TIME / 2);
    let (before, begin) = (witness.cpu_time()?, Instant::now());
    std::thread::sleep(FULL_TIME);
    let cpu = (witness.cpu_time()? - before).as_secs_f64() / begin.elapsed().as_secs_f64();
    drop(crowd);
    Ok((cpu, until_let_in(server.address())?))
}

fn until_let_in(address: SocketAddr) -> Result<Duration> {
    let begin = Instant::now();
    while begin.elapsed() < 5 * BACK_MAX {
        if Client::open(address).is_ok() {
            return Ok(begin.elapsed());
        }
        std::thread::sleep(TICK);
    }
    anyhow::bail!("nobody is let in any more")
}

/// Connections that open, do something, and go, most of them without a word.
fn churn(server: &Server, connections: u64, verdict: &mut Verdict) -> Result<()> {
    let witness = Witness::of(server.pid());
    let files = || -> Result<usize> { Ok(std::fs::read_dir(format!("/proc/{}/fd", server.pid()))?.count()) };
    let open_and_go = |count: u64| -> Result<(), Ended> {
        (0..count).try_for_each(|_| {
            let mut client = Client::open(server.address())?;
            client.call(QueueDeclare { exclusive: true, ..Default::default() }).map(drop)
        })
    };
    open_and_go(connections / 10)?;
    std::thread::sleep(QUIET);
    let (memory, open_files) = (witness.resident_bytes()?, files()?);
    let begin = Instant::now();
    open_and_go(connections)?;
    let rate = connections as f64 / begin.elapsed().as_secs_f64();
    std::thread::sleep(5 * QUIET);
    let (memory_now, open_files_now) = (witness.resident_bytes()?, files()?);
    verdict.count("connections, one after the other", connections);
    verdict.fact(format!(
        "{rate:.0} connections/s; resident {} MiB, then {} MiB; open files {open_files}, then {open_files_now}",
        memory >> 20,
        memory_now >> 20
    ));
    let bound = memory + memory / 20 + LEAK_MAX_BYTES;
    verdict.demand(memory_now <= bound, "memory grows", format!("{memory} octets, then {memory_now}"));
    verdict.demand(open_files_now <= open_files + FILES_MORE_MAX, "open files grow", open_files_now);
    Ok(())
}

fn on_a_slow_disk(server: Server, site: &Site, verdict: &mut Verdict) -> Result<()> {
    super::install(&["strace"])?;
    let mut client = Client::open_beating(server.address(), HEARTBEAT_S)?;
    client.call(QueueDeclare { queue: QUEUE, durable: true, ..Default::default() })?;
    client.select_confirms()?;
    let inject = format!("inject=fdatasync:delay_enter={SYNC_DELAY_US}");
    let options = ["-e", "trace=fdatasync", "-e", &inject].map(str::to_owned);
    let tracer = Tracer::of_process(server.pid(), &options, &site.folder().join("strace.log"))?;
    let (begin, mut slowest, mut confirmed) = (Instant::now(), Duration::ZERO, 0);
    while begin.elapsed() < SLOW_TIME {
        let sent = Instant::now();
        let message = Message::new(1, 1);
        let publish = BasicPublish { routing_key: QUEUE, ..Default::default() };
        client.publish(publish, &message.properties(), &message.body_of(100))?;
        client.beat()?;
        // Beyond three heartbeats a connection is given up.
        while !matches!(
            client.next(4 * Duration::from_secs(HEARTBEAT_S.into()))?,
            Some(Event::Confirm { .. })
        ) {
            ensure!(sent.elapsed() < SLOW_TIME, "no confirm in {SLOW_TIME:?}");
        }
        slowest = slowest.max(sent.elapsed());
        confirmed += 1;
    }
    verdict.fact(format!(
        "each fdatasync {} ms: {confirmed} confirms, one at a time, the slowest after {} ms, heartbeats of {HEARTBEAT_S} s kept",
        SYNC_DELAY_US / 1000,
        slowest.as_millis()
    ));
    server.kill()?;
    tracer.finish()
}
