//! A broker that lies: it answers like any other until it comes to its lie, the same for all its clients at once.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use leveret_testkit::raw_client::message::Message;
use leveret_testkit::raw_client::value::Value;

use super::lies::{
    FRAME_MAX, METHOD, array_that_fills, deep_table, endless_field, endless_frame, header, header_with_table,
    method, number,
};
use super::victim::Victim;
use crate::reliability::verdict::Verdict;

const CLOSED_WITHIN: Duration = Duration::from_secs(1);
/// A thousand clients in one process, and as many threads of ours, on two cores.
const SLACK: Duration = Duration::from_millis(1500);
const HELD_FOR: Duration = Duration::from_millis(300);
/// For all clients together, besides the octets that were really sent to them.
const RESIDENT_RISE_MAX_BYTES: u64 = 64 << 20;
const COMING_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);
const STACK_BYTES: usize = 256 << 10;
const CHANNEL: u16 = 1;

/// What the client has said last when it hears the lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    ProtocolHeader,
    StartOk,
    Open,
    /// Behind `basic.consume-ok`, for this consumer.
    Consume,
}

struct Lie {
    name: &'static str,
    after: Said,
    octets: fn(consumer_tag: &Value) -> Result<Vec<u8>>,
    /// It is odd and legal: nobody hangs up.
    is_held: bool,
}

const LIES: [Lie; 10] = [
    Lie {
        name: "frame of 4 GiB as a greeting",
        after: Said::ProtocolHeader,
        octets: |_| Ok(endless_frame(0)),
        is_held: false,
    },
    Lie {
        name: "server properties of 2 GiB",
        after: Said::ProtocolHeader,
        octets: |_| Ok(endless_field(0, vec![0, 10, 0, 10, 0, 9, 0, 0, 0, 0])),
        is_held: false,
    },
    Lie {
        name: "server properties 1,300 deep",
        after: Said::ProtocolHeader,
        octets: |_| Ok(start_with(&deep_table(1300))),
        is_held: false,
    },
    Lie {
        name: "frame of 4 GiB instead of a tune",
        after: Said::StartOk,
        octets: |_| Ok(endless_frame(0)),
        is_held: false,
    },
    Lie {
        name: "frame_max=0, and then a frame of 4 GiB",
        after: Said::Open,
        octets: |_| Ok([method(0, "connection.open-ok", &[])?, endless_frame(0)].concat()),
        is_held: false,
    },
    Lie {
        name: "body of 2^63 octets",
        after: Said::Consume,
        octets: |tag| Ok([deliver(tag)?, header(CHANNEL, 1 << 63)?].concat()),
        is_held: false,
    },
    Lie {
        name: "body of 128 MiB that never comes",
        after: Said::Consume,
        octets: |tag| Ok([deliver(tag)?, header(CHANNEL, 128 << 20)?].concat()),
        is_held: true,
    },
    Lie {
        name: "headers 21,000 deep",
        after: Said::Consume,
        octets: |tag| Ok([deliver(tag)?, header_with_table(CHANNEL, &deep_table(21_000))].concat()),
        // Headers that do not decode are none; whoever sent the message is not the broker.
        is_held: true,
    },
    Lie {
        name: "headers of 131,000 values",
        after: Said::Consume,
        octets: |tag| {
            let table = array_that_fills(FRAME_MAX);
            Ok([deliver(tag)?, header_with_table(CHANNEL, &table)].concat())
        },
        is_held: true,
    },
    Lie {
        name: "frame of 4 GiB",
        after: Said::Consume,
        octets: |_| Ok(endless_frame(CHANNEL)),
        is_held: false,
    },
];

fn start_with(properties: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 10, 0, 10, 0, 9];
    payload.extend((properties.len() as u32).to_be_bytes());
    payload.extend(properties);
    payload.extend(b"\0\0\0\x05PLAIN\0\0\0\x05en_US");
    leveret_testkit::raw_client::frame_bytes(METHOD, 0, &payload)
}

fn deliver(consumer_tag: &Value) -> Result<Vec<u8>> {
    let fields = [("consumer-tag", consumer_tag.clone()), ("delivery-tag", number(1))];
    method(CHANNEL, "basic.deliver", &fields)
}

/// All lies, told to `count` clients each.
///
/// # Errors
/// A client does not come, or a process cannot be started.
pub(super) fn lie_to_clients(count: usize, verdict: &mut Verdict) -> Result<()> {
    let mut most = 0;
    for lie in &LIES {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut victim = Victim::start(listener.local_addr()?, count)?;
        let witness = victim.witness();
        victim.connect()?;
        let mut before = 0;
        let ends = tell(lie, listener, count, || {
            before = witness.resident_bytes()?;
            witness.forget_peak()
        });
        let ends = ends.context(lie.name)?;
        let rise = witness.peak_bytes()?.saturating_sub(before);
        most = most.max(rise);
        judge(lie, ends, rise, verdict);
        verdict.demand(victim.is_running(), "a lie ended a process", lie.name);
    }
    verdict.fact(format!(
        "{} lies of a broker, {count} clients each: {} MiB at most",
        LIES.len(),
        most >> 20
    ));
    Ok(())
}

fn judge(lie: &Lie, ends: Vec<Result<Option<Duration>>>, rise: u64, verdict: &mut Verdict) {
    let mut longest = Duration::ZERO;
    let count = ends.len();
    for end in ends {
        match end {
            Ok(Some(took)) if !lie.is_held => longest = longest.max(took),
            Ok(None) if lie.is_held => {}
            Ok(Some(_)) => verdict.fault("hung up for nothing", lie.name),
            Ok(None) => verdict.fault("believed", lie.name),
            Err(error) => verdict.fault("not so far", format!("{}: {error:#}", lie.name)),
        }
    }
    verdict.fact(format!(
        "a broker's {}: {count} clients, the last hung up after {} ms, {} MiB more",
        lie.name,
        longest.as_millis(),
        rise >> 20
    ));
    verdict.demand(
        longest <= CLOSED_WITHIN + SLACK,
        "believed too long",
        format!("{}: {longest:?}", lie.name),
    );
    let sent = (lie.octets)(&Value::text("")).map_or(0, |octets| octets.len() * count) as u64;
    let rise_max = RESIDENT_RISE_MAX_BYTES + sent;
    verdict.demand(rise <= rise_max, "memory of clients", format!("{}: {rise} of {rise_max}", lie.name));
}

/// How long after its lie each client hung up; `None`: not at all. `ready` is called when all clients are there.
fn tell(
    lie: &Lie,
    listener: TcpListener,
    count: usize,
    ready: impl FnOnce() -> Result<()>,
) -> Result<Vec<Result<Option<Duration>>>> {
    let (waiting, begin) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let mut liars = Vec::with_capacity(count);
        for _ in 0..count {
            let (stream, _) = listener.accept()?;
            let (waiting, begin) = (&waiting, &begin);
            let liar = std::thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, move || Liar { stream, lie }.work(waiting, begin))?;
            liars.push(liar);
        }
        // Whoever comes back finds nobody.
        drop(listener);
        let deadline = Instant::now() + COMING_TIMEOUT;
        while waiting.load(Ordering::Relaxed) < count && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        let ready = ready();
        begin.store(true, Ordering::Relaxed);
        ready?;
        Ok(liars.into_iter().map(|liar| liar.join().map_err(|_| anyhow!("panicked"))?).collect())
    })
}

/// One connection of the lying broker.
struct Liar<'l> {
    stream: TcpStream,
    lie: &'l Lie,
}

impl Liar<'_> {
    fn work(mut self, waiting: &AtomicUsize, begin: &AtomicBool) -> Result<Option<Duration>> {
        self.stream.set_nodelay(true)?;
        self.stream.set_read_timeout(Some(COMING_TIMEOUT))?;
        let consumer_tag = self.come_to_the_lie()?;
        let octets = (self.lie.octets)(&consumer_tag)?;
        waiting.fetch_add(1, Ordering::Relaxed);
        while !begin.load(Ordering::Relaxed) {
            std::thread::sleep(POLL);
        }
        let told = Instant::now();
        // The client may hang up before it has heard all.
        drop(self.stream.write_all(&octets));
        let patience = if self.lie.is_held { HELD_FOR } else { CLOSED_WITHIN + 2 * SLACK };
        Ok(self.is_hung_up(told + patience).then(|| told.elapsed()))
    }

    fn is_hung_up(&mut self, deadline: Instant) -> bool {
        let mut heard = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
                return false;
            }
            match self.stream.read(&mut heard) {
                Ok(1..) => {}
                Ok(0) => return true,
                Err(error) => return !matches!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
    }

    /// Answers what is asked until the lie's turn; the tag of the consumer, if there is one.
    fn come_to_the_lie(&mut self) -> Result<Value> {
        let nobody = Value::text("");
        self.stream.read_exact(&mut [0; 8]).context("no protocol header")?;
        if self.lie.after == Said::ProtocolHeader {
            return Ok(nobody);
        }
        self.stream.write_all(&start_with(&[]))?;
        loop {
            let (channel, asked) = self.method()?;
            match asked.method {
                "connection.start-ok" if self.lie.after == Said::StartOk => return Ok(nobody),
                "connection.start-ok" => self.say(0, "connection.tune", &[])?,
                "connection.tune-ok" => {}
                "connection.open" if self.lie.after == Said::Open => return Ok(nobody),
                "basic.consume" => {
                    let tag = asked.field("consumer-tag").context("a tag")?.clone();
                    self.say(channel, "basic.consume-ok", &[("consumer-tag", tag.clone())])?;
                    return Ok(tag);
                }
                "queue.declare" => {
                    let queue = asked.field("queue").context("a name")?.clone();
                    self.say(channel, "queue.declare-ok", &[("queue", queue)])?;
                }
                other => self.say(channel, &format!("{other}-ok"), &[])?,
            }
        }
    }

    fn say(&mut self, channel: u16, name: &str, fields: &[(&str, Value)]) -> Result<()> {
        Ok(self.stream.write_all(&method(channel, name, fields)?)?)
    }

    fn method(&mut self) -> Result<(u16, Message)> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head).context("no more from the client")?;
        let [kind, c, h, size @ ..] = head;
        let size = u32::from_be_bytes(size) as usize;
        if kind != METHOD || size > FRAME_MAX {
            bail!("a frame of kind {kind} and {size} octets");
        }
        let mut payload = vec![0; size + 1];
        self.stream.read_exact(&mut payload)?;
        payload.pop();
        let message = Message::decode_method(&payload).map_err(|error| anyhow!(error.0))?;
        Ok((u16::from_be_bytes([c, h]), message))
    }
}
