//! A hundred consumers that stop reading (scorecard row 20): little is kept for each, others go on, and who is silent for two
//! heartbeats is gone, with everything given back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use leveret_testkit::supervisor::Server;
use leveret_wire::method::{BasicConsume, BasicPublish, QueueDeclare};

use super::Plan;
use super::bystander::{Bystander, p99};
use super::client::Client;
use super::load::publish_all;
use super::message::Message;
use super::site::Site;
use super::verdict::Verdict;
use super::witness::Witness;

const SOCKETS: usize = 100;
const QUEUES: [(&str, bool); 2] = [("reliability.stalled.auto", true), ("reliability.stalled.manual", false)];
/// Of each queue: more than a hundred sockets and the kernel take.
const MESSAGES: u64 = 2500;
const BODY_BYTES: usize = 64 << 10;
const IN_FLIGHT_MAX: usize = 100;
const HEARTBEAT_S: u16 = 2;
/// For one socket: a mebibyte and a frame.
const KEPT_MAX_BYTES: u64 = (1 << 20) + (128 << 10);
const NOISE_BYTES: u64 = 24 << 20;
const WATCHED: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(5);
/// Two heartbeats, and what the timer of a busy machine is late.
const CLOSED_MAX: Duration = Duration::from_secs(2 * HEARTBEAT_S as u64 + 3);
/// Below this nobody minds.
const P99_FLOOR: Duration = Duration::from_millis(20);

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let server = site.start().context("failed start")?;
    for (queue, _) in QUEUES {
        fill(&server, queue, plan.seed).with_context(|| queue.to_owned())?;
    }
    let witness = Witness::of(server.pid());
    let unloaded = watch(&server, WATCHED)?;
    let (before, others) = (witness.resident_bytes()?, open_sockets(&server)?);
    witness.forget_peak()?;
    let mut sockets = (0..SOCKETS).map(|number| stall(&server, number)).collect::<Result<Vec<_>>>()?;
    let (begin, stop) = (Instant::now(), AtomicBool::new(false));
    let loaded = std::thread::scope(|scope| {
        // Half of them go on to send heartbeats.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for socket in sockets.iter_mut().step_by(2) {
                    let _it_may_have_been_closed = socket.beat();
                }
                std::thread::sleep(Duration::from_secs(HEARTBEAT_S.into()) / 2);
            }
        });
        let loaded = watch(&server, WATCHED);
        while open_sockets(&server).is_ok_and(|open| open > others + SOCKETS / 2 + 1)
            && begin.elapsed() < CLOSED_MAX
        {
            std::thread::sleep(PAUSE);
        }
        stop.store(true, Ordering::Relaxed);
        loaded
    })?;
    let closed_after = begin.elapsed();
    let open = open_sockets(&server)?.saturating_sub(others);
    let rise = witness.peak_bytes()?.saturating_sub(before);
    verdict.count("sockets that stop reading", SOCKETS as u64);
    verdict.fact(format!(
        "up to {} MiB more resident; {open} of {SOCKETS} still open after {} ms, of which {} beat; others' p99 {:.1} ms, before {:.1} ms",
        rise >> 20,
        closed_after.as_millis(),
        SOCKETS / 2,
        loaded.as_secs_f64() * 1000.0,
        unloaded.as_secs_f64() * 1000.0
    ));
    verdict.demand(rise <= SOCKETS as u64 * KEPT_MAX_BYTES + NOISE_BYTES, "memory", format!("{rise} octets"));
    verdict.demand(open <= SOCKETS / 2 + 1, "silent and not closed", format!("{open} connections"));
    verdict.demand(
        loaded <= (2 * unloaded).max(P99_FLOOR),
        "others wait",
        format!("{loaded:?}, not {unloaded:?}"),
    );
    drop(sockets);
    given_back(&server, verdict)?;
    server.kill()?;
    Ok(())
}

fn fill(server: &Server, queue: &str, seed: u64) -> Result<()> {
    let mut client = Client::open(server.address())?;
    client.call(QueueDeclare { queue, durable: true, ..Default::default() })?;
    client.select_confirms()?;
    publish_all(&mut client, 1..MESSAGES + 1, IN_FLIGHT_MAX, |client, id| {
        let message = Message::new(seed, id);
        let publish = BasicPublish { routing_key: queue, ..Default::default() };
        client.publish(publish, &message.properties(), &message.body_of(BODY_BYTES))
    })?;
    Ok(())
}

/// A consumer that reads nothing any more, of one of the queues.
fn stall(server: &Server, number: usize) -> Result<Client> {
    let mut client = Client::open_beating(server.address(), HEARTBEAT_S)?;
    let (queue, no_ack) = QUEUES[number / 2 % QUEUES.len()];
    client.call(BasicConsume { queue, no_ack, ..Default::default() })?;
    Ok(client)
}

/// How long others wait for a confirm, at p99.
fn watch(server: &Server, time: Duration) -> Result<Duration> {
    let stop = AtomicBool::new(false);
    let bystander = Bystander::open(server.address())?;
    std::thread::scope(|scope| {
        let times = scope.spawn(|| bystander.round_trips(&stop, PAUSE));
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        Ok(p99(&times.join().map_err(|_| anyhow::anyhow!("the bystander panicked"))??))
    })
}

fn open_sockets(server: &Server) -> Result<usize> {
    let descriptors =
        std::fs::read_dir(format!("/proc/{}/fd", server.pid())).context("the broker is gone")?;
    let targets = descriptors.flatten().filter_map(|one| std::fs::read_link(one.path()).ok());
    Ok(targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count())
}

/// What was delivered and not acknowledged waits again.
fn given_back(server: &Server, verdict: &mut Verdict) -> Result<()> {
    let mut client = Client::open(server.address())?;
    let begin = Instant::now();
    for (queue, no_ack) in QUEUES {
        let mut count = 0;
        while count < MESSAGES && !no_ack && begin.elapsed() < CLOSED_MAX {
            let passive = QueueDeclare { queue, passive: true, ..Default::default() };
            count = u64::from(client.call(passive)?);
            std::thread::sleep(PAUSE);
        }
        verdict.demand(no_ack || count == MESSAGES, "not given back", format!("{count} of {MESSAGES}"));
    }
    Ok(())
}
