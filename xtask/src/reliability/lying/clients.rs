//! Clients that lie to the broker, many at once, each with the same lie.
//!
//! ```text
//!   connect … up to a stage ──► all tell their lie ──► each is refused, or its connection is held open and costs nothing
//! ```

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use leveret_testkit::raw_client::value::Value;
use leveret_testkit::raw_client::{RawClient, Received};

use super::lies::{
    FRAME_MAX, array_that_fills, deep_table, dense_array, endless_field, endless_frame, header,
    header_with_table, method, method_with_table, number, payload, start_ok,
};
use crate::reliability::bystander::{Bystander, p99};
use crate::reliability::verdict::Verdict;
use crate::reliability::witness::Witness;

const CLOSED_WITHIN: Duration = Duration::from_secs(1);
/// From the broker's close to our look at each of a thousand.
const SLACK: Duration = Duration::from_millis(500);
const RESIDENT_RISE_MAX_BYTES: u64 = 64 << 20;
const BYSTANDER_P99_MAX: Duration = Duration::from_millis(500);
const BYSTANDER_PAUSE: Duration = Duration::from_millis(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const FRAME_MAX_BEFORE_TUNE: usize = 8192;
const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";
const CHANNEL: u16 = 1;

/// How far the handshake goes before the lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// `connection.start` has come.
    Greeted,
    /// `connection.tune` has come.
    LoggedIn,
    /// A channel is open.
    Open,
}

/// What the broker has to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Close the connection.
    Closed,
    /// Close the channel.
    ChannelClosed,
    /// Nothing: it is odd and legal, and must cost nothing while it lasts.
    Held,
}

struct Lie {
    name: &'static str,
    stage: Stage,
    octets: fn() -> Result<Vec<u8>>,
    end: End,
}

const LIES: [Lie; 15] = [
    Lie {
        name: "frame of 4 GiB before the login",
        stage: Stage::Greeted,
        octets: || Ok(endless_frame(0)),
        end: End::Closed,
    },
    Lie {
        name: "string of 2 GiB before the login",
        stage: Stage::Greeted,
        octets: || {
            // The locale behind the response is cut off with the response's length.
            let mut start_ok = payload("connection.start-ok", &[("mechanism", Value::text("PLAIN"))])?;
            start_ok.pop();
            Ok(endless_field(0, start_ok))
        },
        end: End::Closed,
    },
    Lie {
        name: "table of 2 GiB before the login",
        stage: Stage::Greeted,
        octets: || Ok(endless_field(0, vec![0, 10, 0, 11, 0, 0, 0, 0])),
        end: End::Closed,
    },
    Lie {
        name: "array of 1,000,000 values before the login",
        stage: Stage::Greeted,
        octets: || start_ok_with(&dense_array(8000, 1_000_000)),
        end: End::Closed,
    },
    Lie {
        name: "table 1,300 deep before the login",
        stage: Stage::Greeted,
        octets: || start_ok_with(&deep_table(1300)),
        end: End::Closed,
    },
    Lie {
        name: "client properties of 8,000 values",
        stage: Stage::Greeted,
        octets: || start_ok_with(&array_that_fills(FRAME_MAX_BEFORE_TUNE)),
        end: End::Held,
    },
    Lie {
        name: "frame_max=0, and then a frame of 4 GiB",
        stage: Stage::LoggedIn,
        octets: || Ok([tune_ok(0)?, open()?, endless_frame(CHANNEL)].concat()),
        end: End::Closed,
    },
    Lie {
        name: "frame_max of 4 GiB, and then such a frame",
        stage: Stage::LoggedIn,
        octets: || Ok([tune_ok(u32::MAX)?, open()?, endless_frame(CHANNEL)].concat()),
        end: End::Closed,
    },
    Lie {
        name: "frame of 4 GiB",
        stage: Stage::Open,
        octets: || Ok(endless_frame(CHANNEL)),
        end: End::Closed,
    },
    Lie {
        name: "body of 2^63 octets",
        stage: Stage::Open,
        octets: || Ok([publish()?, header(CHANNEL, 1 << 63)?].concat()),
        end: End::Closed,
    },
    Lie {
        name: "body of 128 MiB that never comes",
        stage: Stage::Open,
        octets: || Ok([publish()?, header(CHANNEL, 128 << 20)?].concat()),
        end: End::Held,
    },
    Lie {
        name: "table 100,000 deep, longer than a frame",
        stage: Stage::Open,
        octets: || declare_with(&deep_table(100_000)),
        end: End::Closed,
    },
    Lie {
        name: "table 21,000 deep",
        stage: Stage::Open,
        octets: || declare_with(&deep_table(21_000)),
        end: End::Closed,
    },
    Lie {
        name: "arguments of 131,000 values",
        stage: Stage::Open,
        octets: || declare_with(&array_that_fills(FRAME_MAX)),
        end: End::ChannelClosed,
    },
    Lie {
        name: "headers of 131,000 values",
        stage: Stage::Open,
        octets: || Ok([publish()?, header_with_table(CHANNEL, &array_that_fills(FRAME_MAX))].concat()),
        end: End::Held,
    },
];

fn start_ok_with(properties: &[u8]) -> Result<Vec<u8>> {
    let octets = start_ok(properties, "guest", "guest");
    ensure!(octets.len() <= FRAME_MAX_BEFORE_TUNE, "refused for its length alone");
    Ok(octets)
}

fn tune_ok(frame_max: u32) -> Result<Vec<u8>> {
    let fields = [("channel-max", number(2047)), ("frame-max", number(frame_max.into()))];
    method(0, "connection.tune-ok", &fields)
}

fn open() -> Result<Vec<u8>> {
    method(0, "connection.open", &[("virtual-host", Value::text("/"))])
}

fn publish() -> Result<Vec<u8>> {
    method(CHANNEL, "basic.publish", &[("routing-key", Value::text("nobody"))])
}

/// Asks for a queue that is not there.
fn declare_with(arguments: &[u8]) -> Result<Vec<u8>> {
    let fields = [("queue", Value::text("nobody")), ("passive", Value::Bool(true))];
    Ok(method_with_table(CHANNEL, payload("queue.declare", &fields)?, arguments))
}

/// All lies, told by `count` clients each.
///
/// # Errors
/// The broker refuses honest clients.
pub(super) fn lie_to(broker: SocketAddr, pid: u32, count: usize, verdict: &mut Verdict) -> Result<()> {
    let witness = Witness::of(pid);
    witness.forget_peak()?;
    let before = witness.resident_bytes()?;
    for lie in &LIES {
        let stop = AtomicBool::new(false);
        let bystander = Bystander::open(broker).context("a good client")?;
        let (told, good) = std::thread::scope(|scope| {
            let good = scope.spawn(|| bystander.round_trips(&stop, BYSTANDER_PAUSE));
            let told = tell(lie, broker, count);
            stop.store(true, Ordering::Relaxed);
            (told, good.join())
        });
        let good = good.map_err(|_| anyhow::anyhow!("the good client panicked"))?;
        judge(lie, &told.context(lie.name)?, &good.with_context(|| lie.name)?, verdict);
    }
    let rise = witness.peak_bytes()?.saturating_sub(before);
    verdict.count("lies", (LIES.len() * count) as u64);
    verdict.fact(format!("{} lies, {count} connections each: {} MiB at most", LIES.len(), rise >> 20));
    verdict.demand(rise <= RESIDENT_RISE_MAX_BYTES, "memory of the broker", format!("{rise} octets"));
    Ok(())
}

fn judge(lie: &Lie, ends: &[Option<Duration>], good: &[Duration], verdict: &mut Verdict) {
    let longest = ends.iter().flatten().max().copied().unwrap_or_default();
    let waited = p99(good);
    verdict.fact(format!(
        "{}: ended in {} ms; {} round trips of a good client, p99 {:.1} ms",
        lie.name,
        longest.as_millis(),
        good.len(),
        waited.as_secs_f64() * 1000.0
    ));
    let open = ends.iter().filter(|end| end.is_none()).count();
    verdict.demand(open == 0, "not as it should end", format!("{}: {open} of {}", lie.name, ends.len()));
    verdict.demand(longest <= CLOSED_WITHIN + SLACK, "closed too late", format!("{}: {longest:?}", lie.name));
    verdict.demand(waited <= BYSTANDER_P99_MAX, "a good client waits", format!("{}: {waited:?}", lie.name));
}

/// How long after its lie each client saw the end it had to see; no time if that is no end.
fn tell(lie: &Lie, broker: SocketAddr, count: usize) -> Result<Vec<Option<Duration>>> {
    let mut clients: Vec<RawClient> = (0..count).map(|_| reach(broker, lie.stage)).collect::<Result<_>>()?;
    let octets = (lie.octets)()?;
    let told: Vec<Instant> = clients
        .iter_mut()
        .map(|client| {
            client.send(&octets);
            Instant::now()
        })
        .collect();
    let deadline = Instant::now() + CLOSED_WITHIN + 4 * SLACK;
    let end = |(client, told): (&mut RawClient, Instant)| {
        let took = |()| if lie.end == End::Held { Duration::ZERO } else { told.elapsed() };
        sees(client, lie.end, deadline).then_some(()).map(took)
    };
    Ok(clients.iter_mut().zip(told).map(end).collect())
}

/// Waits for that end. What is held is looked at for a moment only: all the others have theirs meanwhile.
fn sees(client: &mut RawClient, end: End, deadline: Instant) -> bool {
    let deadline = match end {
        End::Held => Instant::now() + Duration::from_millis(1),
        _ => deadline,
    };
    loop {
        match (client.receive(deadline), end) {
            (Received::Closed, End::Closed) | (Received::Silence, End::Held) => return true,
            (Received::Frame(frame), End::ChannelClosed) if frame.payload.starts_with(&[0, 20, 0, 40]) => {
                return true;
            }
            (Received::Closed | Received::Silence, _) => return false,
            (Received::Frame(_) | Received::Bytes(_), _) => {}
        }
    }
}

/// An honest client up to that stage.
fn reach(broker: SocketAddr, stage: Stage) -> Result<RawClient> {
    let mut client = RawClient::connect(broker)?;
    let mut answered = |octets: &[u8]| {
        client.send(octets);
        let answer = client.receive(Instant::now() + ANSWER_TIMEOUT);
        ensure!(matches!(answer, Received::Frame(_)), "{answer:?} instead of an answer");
        Ok(())
    };
    answered(PROTOCOL_HEADER)?;
    if stage >= Stage::LoggedIn {
        answered(&start_ok(&[], "guest", "guest"))?;
    }
    if stage >= Stage::Open {
        answered(&[tune_ok(FRAME_MAX as u32)?, open()?].concat())?;
        answered(&method(CHANNEL, "channel.open", &[])?)?;
    }
    Ok(client)
}
