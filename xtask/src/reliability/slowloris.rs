//! Clients that are slow on purpose: 2,000 connections, an octet a second each, in the AMQP header, after the tune, in the
//! TLS hello, the head and the body of an HTTP request.
//!
//! Passes if each is closed in time, counted from its beginning and not from its last octet, and if whoever comes
//! meanwhile with good intentions is answered at once.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Plan;
use super::doors::Doors;
use super::site::Site;
use super::verdict::Verdict;

const GOOD_P99_MAX: Duration = Duration::from_millis(100);
/// Between two looks at all connections; each sends once in ten.
const TICK: Duration = Duration::from_millis(100);
const TICKS_PER_OCTET: usize = 10;
const CONNECTS_PER_TICK: usize = 100;
/// From the kernel to an accept, and to our look at each of 2,000, is not the broker's.
const SLACK: Duration = Duration::from_secs(1);
const GOOD_PAUSE: Duration = Duration::from_millis(20);
const RESIDENT_RISE_MAX_BYTES: u64 = 64 << 20;

/// One way of being slow.
struct Attack {
    name: &'static str,
    door: fn(&Doors) -> SocketAddr,
    /// Sent at once.
    opening: &'static [u8],
    /// Sent octet by octet; after its end zeros.
    drip: &'static [u8],
    closed_within: Duration,
}

const ATTACKS: [Attack; 5] = [
    Attack {
        name: "AMQP header",
        door: |doors| doors.amqp,
        opening: b"",
        drip: b"AMQP\0\0\x09\x01\x01\0\0\0\0\x0f\xff",
        closed_within: Duration::from_secs(10),
    },
    Attack {
        name: "after the tune",
        door: |doors| doors.amqp,
        opening: b"AMQP\0\0\x09\x01\x01\0\0\0\0\0\x24\0\x0a\0\x0b\0\0\0\0\x05PLAIN\0\0\0\x0c\0guest\0guest\
                   \x05en_US\xce",
        drip: b"\x01\0\0\0\0\0\x0c\0\x0a\0\x1f\x07\xff\0\x02\0\0\0\0\xce\x01\0\0",
        closed_within: Duration::from_secs(10),
    },
    Attack {
        name: "TLS hello",
        door: |doors| doors.amqps,
        opening: b"",
        drip: b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        closed_within: Duration::from_secs(5),
    },
    Attack {
        name: "HTTP header",
        door: |doors| doors.http,
        opening: b"GET /health/live HTTP/1.1\r\nx: ",
        drip: b"slow",
        closed_within: Duration::from_secs(10),
    },
    Attack {
        name: "HTTP body",
        door: |doors| doors.http,
        opening: b"PUT /api/vhosts/slow HTTP/1.1\r\nhost: x\r\nauthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\
                   content-length: 1000\r\n\r\n",
        drip: b"{",
        closed_within: Duration::from_secs(10),
    },
];

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let doors = Doors::open(site)?;
    let count = plan.rounds(500, 2000) as usize;
    for attack in &ATTACKS {
        let before = doors.resident_bytes()?;
        let stop = AtomicBool::new(false);
        let (slow, good) = std::thread::scope(|scope| {
            let good = scope.spawn(|| be_good(&doors, &stop));
            let slow = drip(attack, &doors, count);
            stop.store(true, Ordering::Relaxed);
            (slow, good.join())
        });
        let rise = doors.resident_bytes()?.saturating_sub(before);
        judge(attack, &slow?, good.map_err(|_| anyhow::anyhow!("the good client panicked"))??, verdict);
        verdict.demand(rise <= RESIDENT_RISE_MAX_BYTES, "memory", format!("{}: {rise} octets", attack.name));
    }
    doors.close()
}

fn judge(attack: &Attack, lifetimes: &[Duration], mut good: Vec<Duration>, verdict: &mut Verdict) {
    let longest = lifetimes.iter().max().copied().unwrap_or_default();
    good.sort();
    let p99 = good[(good.len() * 99 / 100).min(good.len() - 1)];
    verdict.fact(format!(
        "{}: {} connections, the longest was let live {} ms; {} good clients meanwhile, p99 {:.1} ms",
        attack.name,
        lifetimes.len(),
        longest.as_millis(),
        good.len(),
        p99.as_secs_f64() * 1000.0,
    ));
    let in_time = longest <= attack.closed_within + SLACK;
    verdict.demand(in_time, "closed too late", format!("{}: {longest:?}", attack.name));
    verdict.demand(p99 <= GOOD_P99_MAX, "good clients wait", format!("{}: p99 {p99:?}", attack.name));
}

struct Slow {
    socket: TcpStream,
    began: Instant,
    sent: usize,
    lived: Option<Duration>,
}

impl Slow {
    fn begin(attack: &Attack, doors: &Doors) -> Result<Slow> {
        let began = Instant::now();
        let mut socket = TcpStream::connect((attack.door)(doors))?;
        socket.write_all(attack.opening)?;
        socket.set_nonblocking(true)?;
        Ok(Slow { socket, began, sent: 0, lived: None })
    }

    /// Sends the next octet, unless the broker has hung up.
    fn go_on(&mut self, drip: &[u8], may_send: bool) {
        let octet = drip.get(self.sent).copied().unwrap_or(0);
        let sent = if may_send { self.socket.write(&[octet]) } else { Ok(0) };
        if sent.is_err_and(|error| error.kind() != ErrorKind::WouldBlock) || self.is_closed() {
            self.lived = Some(self.began.elapsed());
        }
        self.sent += usize::from(may_send);
    }

    fn is_closed(&mut self) -> bool {
        let mut said = [0; 1024];
        loop {
            match self.socket.read(&mut said) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
    }
}

/// Opens all connections and drips until each is closed; how long each lived.
fn drip(attack: &Attack, doors: &Doors, count: usize) -> Result<Vec<Duration>> {
    let mut slow: Vec<Slow> = Vec::with_capacity(count);
    let give_up = Instant::now() + 5 * attack.closed_within;
    for tick in 0.. {
        // A few at a time: more than the kernel's queue takes would be let in late, and who connects sees nobody closed.
        for _ in 0..CONNECTS_PER_TICK.min(count - slow.len()) {
            let begun = Slow::begin(attack, doors);
            slow.push(begun.with_context(|| format!("{} (is `ulimit -n` above 4,096?)", attack.name))?);
        }
        for (number, slow) in slow.iter_mut().enumerate().filter(|(_, slow)| slow.lived.is_none()) {
            slow.go_on(attack.drip, (number + tick) % TICKS_PER_OCTET == 0);
        }
        let over = slow.len() == count && slow.iter().all(|slow| slow.lived.is_some());
        if over || Instant::now() > give_up {
            break;
        }
        std::thread::sleep(TICK);
    }
    Ok(slow.iter().map(|slow| slow.lived.unwrap_or(slow.began.elapsed())).collect())
}

/// What AMQP and HTTP clients wait for their first answer.
fn be_good(doors: &Doors, stop: &AtomicBool) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) || times.is_empty() {
        times.push(time_to_answer(doors.amqp, b"AMQP\0\0\x09\x01", b"\x01\0\0")?);
        times.push(time_to_answer(
            doors.http,
            b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n",
            b"HTTP/1.1 200",
        )?);
        std::thread::sleep(GOOD_PAUSE);
    }
    Ok(times)
}

fn time_to_answer(address: SocketAddr, question: &[u8], expected: &[u8]) -> Result<Duration> {
    let began = Instant::now();
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.write_all(question)?;
    let mut answer = vec![0; expected.len()];
    socket.read_exact(&mut answer)?;
    ensure!(answer == expected, "answered {:?}", String::from_utf8_lossy(&answer));
    Ok(began.elapsed())
}
