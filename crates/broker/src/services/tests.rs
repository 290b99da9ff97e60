//! Statistics as scenarios: one line each, then what is counted.

use leveret_wire::{FieldTable, FieldValue, Properties, RawProperties};

use super::*;

/// Two services, callers and a clock.
///
/// ```text
///   ask REPLY_TO ID [ttl MS | until MS]     a request to the first queue
///   fan REPLY_TO ID                         to both
///   answer KEY ID [gone | STATUS]           an answer, whose caller may be gone
///   dead REPLY_TO ID REASON                 the first queue gave it up
///   wait MS / sweep / reset
/// ```
struct World {
    services: Services,
    vhost: Arc<str>,
    names: [Arc<str>; 2],
    slots: [ServiceSlot; 2],
    now_us: u64,
}

fn text(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

fn header(name: &str, value: impl Into<FieldValue>) -> Option<FieldTable> {
    Some(FieldTable::from([(name, value.into())]))
}

impl World {
    fn new(is_on: bool) -> Self {
        Self {
            services: Services::new(is_on),
            vhost: "/".into(),
            names: ["first".into(), "second".into()],
            slots: Default::default(),
            now_us: 1_000_000_000,
        }
    }

    fn run(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let request = |reply_to: &str, id: &str| Properties {
            reply_to: text(reply_to),
            correlation_id: text(id),
            ..Default::default()
        };
        match *words.as_slice() {
            ["ask", reply_to, id] => self.publish("q", &request(reply_to, id), 1),
            ["ask", reply_to, id, "ttl", ms] => {
                self.publish("q", &Properties { expiration: text(ms), ..request(reply_to, id) }, 1);
            }
            ["ask", reply_to, id, "until", ms] => {
                let deadline = self.now_us as i64 / 1000 + ms.parse::<i64>().unwrap();
                let headers = header("rpc-deadline", deadline);
                self.publish("q", &Properties { headers, ..request(reply_to, id) }, 1);
            }
            ["fan", reply_to, id] => self.publish("q", &request(reply_to, id), 2),
            ["answer", key, id] => self.answer(key, id, None, 1),
            ["answer", key, id, "gone"] => self.answer(key, id, None, 0),
            ["answer", key, id, status] => self.answer(key, id, Some(status), 1),
            ["dead", reply_to, id, why] => self.dead(&request(reply_to, id), why),
            ["wait", ms] => self.now_us += ms.parse::<u64>().unwrap() * 1000,
            ["sweep"] => self.services.sweep(self.now_us),
            ["reset"] => self.slots.iter().flat_map(OnceLock::get).for_each(|one| one.reset(self.now_us)),
            _ => panic!("{line}"),
        }
    }

    fn answer(&self, key: &str, id: &str, status: Option<&str>, queues: usize) {
        let headers = status.and_then(|status| header("rpc-status", status));
        let answer = Properties { correlation_id: text(id), headers, ..Default::default() };
        // Where an answer goes is no service: it asks for nothing.
        self.publish(key, &answer, queues);
    }

    fn publish(&self, routing_key: &str, properties: &Properties, queues: usize) {
        self.with(routing_key, properties, |message| {
            let asked = self.names.iter().zip(&self.slots).take(queues);
            let asked = asked.map(|(name, slot)| Asked { name, slot });
            self.services.replied(&self.vhost, &message, queues > 0, self.now_us);
            self.services.asked(&self.vhost, &message, asked, self.now_us);
        });
    }

    fn dead(&self, properties: &Properties, why: &str) {
        let why = match why {
            "expired" => GivenUp::Expired,
            "orphaned" => GivenUp::Orphaned,
            _ => GivenUp::Refused,
        };
        self.with("q", properties, |message| {
            self.services.gave_up(&self.vhost, &message, why, &self.slots[0]);
        });
    }

    fn with(&self, routing_key: &str, properties: &Properties, then: impl FnOnce(MessageView<'_>)) {
        let properties = properties.encode().unwrap();
        let properties = RawProperties::parse(&properties).unwrap();
        then(MessageView { exchange: "", routing_key, properties, body: b"" });
    }

    fn counts(&self, at: usize) -> String {
        let Some(service) = self.slots[at].get() else { return "none".into() };
        let counts = service.snapshot(self.now_us).counts;
        let Counts { requests, replies, errors, in_flight, unanswered, .. } = counts;
        let Counts { late, expired, orphaned, untracked, .. } = counts;
        assert_eq!(requests, replies + in_flight + unanswered + untracked, "{counts:?}");
        let named = [
            ("requests", requests),
            ("replies", replies),
            ("errors", errors),
            ("in_flight", in_flight),
            ("unanswered", unanswered),
            ("late", late),
            ("expired", expired),
            ("orphaned", orphaned),
            ("untracked", untracked),
        ];
        let shown = named.into_iter().filter(|(_, count)| *count > 0);
        shown.map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(" ")
    }
}

fn check(script: &str, expected: &str) {
    let mut world = World::new(true);
    script.split(',').for_each(|line| world.run(line));
    assert_eq!(world.counts(0), expected, "{script}");
}

#[test]
fn what_becomes_of_requests_is_counted() {
    check("ask r 1", "requests=1 in_flight=1");
    check("ask r 1, answer r 1", "requests=1 replies=1");
    check("ask ex/r 1, answer r 1", "requests=1 replies=1");
    check("ask r 1, answer r 2", "requests=1 in_flight=1");
    check("ask r 1, answer s 1", "requests=1 in_flight=1");
    check("ask r 1, answer r 1, answer r 1", "requests=1 replies=1");
    check("ask r 1, ask r 2, answer r 2, answer r 1", "requests=2 replies=2");
    check("ask r 1, answer r 1 OK", "requests=1 replies=1");
    check("ask r 1, answer r 1 NOT_FOUND", "requests=1 replies=1 errors=1");
    check("ask r 1, answer r 1 IN_PROGRESS", "requests=1 in_flight=1");
    check("ask r 1, answer r 1 IN_PROGRESS, answer r 1", "requests=1 replies=1");
    check("answer r 1", "none");
}

#[test]
fn time_runs_out() {
    check("ask r 1 ttl 5, wait 5, answer r 1", "requests=1 replies=1");
    check("ask r 1 ttl 5, wait 6, answer r 1", "requests=1 unanswered=1 late=1");
    check("ask r 1 ttl 5, wait 6, sweep", "requests=1 unanswered=1");
    check("ask r 1 ttl 5, wait 6, sweep, sweep, answer r 1", "requests=1 unanswered=1 late=1");
    check("ask r 1 until 5, wait 6, sweep", "requests=1 unanswered=1");
    check("ask r 1 ttl 5, wait 60006, sweep, answer r 1", "requests=1 unanswered=1");
    check("ask r 1, wait 599999, sweep", "requests=1 in_flight=1");
    check("ask r 1, wait 600001, sweep, answer r 1", "requests=1 unanswered=1");
    check("ask r 1, answer r 1 gone", "requests=1 unanswered=1 late=1");
    check("ask r 1 ttl 5, wait 6, sweep, answer r 1 gone", "requests=1 unanswered=1 late=1");
}

#[test]
fn what_a_queue_gives_up_is_not_in_flight() {
    check("ask r 1, dead r 1 expired", "requests=1 unanswered=1 expired=1");
    check("ask r 1, dead r 1 orphaned", "requests=1 unanswered=1 orphaned=1");
    check("ask r 1, dead r 1 refused", "requests=1 unanswered=1");
    check("ask r 1 ttl 5, wait 6, sweep, dead r 1 expired", "requests=1 unanswered=1 expired=1");
    check("ask r 1, answer r 1, dead r 2 orphaned", "requests=1 replies=1 orphaned=1");
    check("dead r 1 expired", "none");
}

#[test]
fn a_reset_keeps_what_is_in_flight() {
    check("ask r 1, ask r 2, answer r 1, reset, answer r 2", "requests=1 replies=1");
    check("ask r 1, reset", "requests=1 in_flight=1");
}

#[test]
fn each_queue_that_a_request_reaches_is_asked() {
    let mut world = World::new(true);
    ["fan r 1", "answer r 1", "answer r 1", "answer r 1"].into_iter().for_each(|line| world.run(line));
    assert_eq!([world.counts(0), world.counts(1)], ["requests=1 replies=1"; 2].map(str::to_owned));
}

#[test]
fn switched_off_it_sees_nothing() {
    let mut world = World::new(false);
    ["ask r 1", "answer r 1", "dead r 2 expired"].into_iter().for_each(|line| world.run(line));
    assert_eq!(world.counts(0), "none");
}

#[test]
fn answers_are_timed() {
    let mut world = World::new(true);
    for ms in 1..=100 {
        [&format!("ask r {ms}"), &format!("wait {ms}"), &format!("answer r {ms}")]
            .into_iter()
            .for_each(|line| world.run(line));
    }
    let snapshot = world.slots[0].get().unwrap().snapshot(world.now_us);
    assert_eq!((snapshot.latency.count(), snapshot.latency.max_us()), (100, 100_000));
    for (percent, expected_us) in [(50.0, 50_000), (95.0, 95_000), (99.0, 99_000)] {
        let read = snapshot.latency.percentile_us(percent).unwrap();
        assert!(read.abs_diff(expected_us) < expected_us / 60, "p{percent}: {read}");
    }
}

#[test]
fn requests_in_flight_are_bounded() {
    let mut world = World::new(true);
    let times = IN_FLIGHT_MAX + 10_000;
    (0..times).for_each(|id| world.run(&format!("ask r {id}")));
    let counts = world.slots[0].get().unwrap().snapshot(world.now_us).counts;
    assert!(counts.in_flight as usize <= IN_FLIGHT_MAX, "{counts:?}");
    assert_eq!(counts.in_flight + counts.untracked, times as u64);
}

#[test]
fn services_are_bounded_and_forgotten_with_their_queues() {
    let services = Services::new(true);
    let (vhost, name): (Arc<str>, Arc<str>) = ("/".into(), "q".into());
    let mut slots: Vec<ServiceSlot> = (0..SERVICES_MAX + 5).map(|_| ServiceSlot::new()).collect();
    for slot in &slots {
        services.service(&vhost, Asked { name: &name, slot }, 0).asked(1, 0);
    }
    assert_eq!(services.other(0).unwrap().counts.requests, 5);
    slots.truncate(SERVICES_MAX - 1);
    let slot = ServiceSlot::new();
    services.service(&vhost, Asked { name: &name, slot: &slot }, 0).asked(1, 0);
    assert_eq!(services.other(0).unwrap().counts.requests, 5);
    assert_eq!(&*slot.get().unwrap().snapshot(0).name, "q");
}
