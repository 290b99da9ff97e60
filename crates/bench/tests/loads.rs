//! Every shape of load, briefly, on a Leveret in this process.

#![allow(clippy::unwrap_used)] // tests may, helpers of tests included

use leveret_bench::connection::{Acks, Connection};
use leveret_bench::outcome::{Kind, Outcome};
use leveret_bench::plan::{Argument, Calls, Churn, Cycle, Flow, Plan, Properties, Route, Settle, Span};
use leveret_bench::process::Process;
use leveret_bench::{Error, Run, Target};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const BRIEFLY: Span =
    Span::Time { warm_up: Duration::from_millis(100), observed: Duration::from_millis(400) };
const PREFIX: &str = "leveret-bench-test";

/// A broker and the runtime it lives on.
struct Site {
    broker: leveret_server::Broker,
    runtime: tokio::runtime::Runtime,
    target: Target,
}

impl Site {
    fn start() -> Site {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let start = leveret_server::Broker::builder().in_memory().any_port().start();
        let broker = runtime.block_on(start).unwrap();
        let target = Target::parse(&broker.url()).unwrap();
        Site { broker, runtime, target }
    }

    fn run(&self, plan: &Plan, span: Span) -> Result<Outcome, Error> {
        let mut samples = 0;
        let run = Run {
            target: &self.target,
            broker: Process::listening_on(self.target.address().port()),
            prefix: PREFIX,
            span,
            cancel: &AtomicBool::new(false),
            watch: &mut |_| samples += 1,
        };
        let outcome = run.execute(plan);
        assert!(outcome.is_err() || samples > 0 || matches!(span, Span::Count(_)));
        outcome
    }

    /// Whether a queue of the load is still there.
    fn is_clean(&self) -> bool {
        let names = [".0", ".1", ".others", ".requests"].map(|end| format!("{PREFIX}{end}"));
        names.iter().all(|name| Connection::connect(&self.target).unwrap().waiting(name).is_err())
    }

    fn stop(self) {
        self.runtime.block_on(self.broker.stop()).unwrap();
    }
}

fn figure(outcome: &Outcome, name: &str) -> f64 {
    outcome.figures.iter().find(|figure| figure.name == name).unwrap_or_else(|| panic!("no {name}")).value
}

/// Runs a flow and checks what must be true of all of them.
fn check_flow(site: &Site, name: &str, flow: Flow, span: Span) -> Outcome {
    let outcome = site.run(&Plan::Flow(flow.clone()), span).unwrap();
    let account = outcome.account.unwrap();
    assert!(account.is_clean() && account.waiting == 0, "{name}: {account:?}");
    assert!(account.sent > 0 && account.received == account.expected, "{name}: {account:?}");
    if flow.window.is_some() {
        assert_eq!(account.confirmed, account.sent, "{name}");
    }
    let end_to_end = outcome.latencies.iter().find(|latency| latency.kind == Kind::EndToEnd);
    assert!(end_to_end.is_none_or(|latency| latency.histogram.count() > 0), "{name}: no latencies");
    assert!(figure(&outcome, "broker CPU") > 0.0 && site.is_clean(), "{name}");
    outcome
}

#[test]
fn flows_of_all_kinds() {
    let site = Site::start();
    let every = |messages, prefetch| Settle::Every { messages, prefetch };
    let flow = Flow::default;
    check_flow(&site, "1 to 1", flow(), BRIEFLY);
    let four = Flow { producers: 4, consumers: 4, queues: 4, channels: 2, ..flow() };
    check_flow(&site, "4 by 4", Flow { window: Some(100), settle: every(10, 100), ..four }, BRIEFLY);
    let one_for_all = Flow { queues: 3, consumers: 3, sizes_bytes: vec![16, 5000], ..flow() };
    check_flow(&site, "1 to 3 queues", Flow { settle: every(1, 10), ..one_for_all }, BRIEFLY);
    check_flow(&site, "shared", Flow { producers: 2, consumers: 3, settle: every(1, 20), ..flow() }, BRIEFLY);
    let durable = Flow { durable: true, persistent: true, window: Some(50), ..flow() };
    check_flow(&site, "durable", Flow { mandatory: true, ..durable }, BRIEFLY);
    let fan = Flow { queues: 5, consumers: 5, route: Route::Fanout, rate: Some(2000.0), ..flow() };
    let outcome = check_flow(&site, "fanout", fan, BRIEFLY);
    assert!(outcome.account.unwrap().expected == 5 * outcome.account.unwrap().sent);
    check_flow(&site, "topic", Flow { route: Route::Topic, other_bindings: 100, ..flow() }, BRIEFLY);
    let named = Properties { content_type: Some("a/b".into()), headers: vec![("k".into(), "v".into())] };
    let headers = Flow { queues: 2, consumers: 2, route: Route::Headers, other_bindings: 3, ..flow() };
    check_flow(&site, "headers", Flow { properties: named, ..headers }, BRIEFLY);
    let stream = vec![("x-queue-type".to_owned(), Argument::Text("stream".to_owned()))];
    let readers = Flow { consumers: 3, durable: true, settle: every(50, 200), arguments: stream, ..flow() };
    check_flow(&site, "stream", readers, Span::Count(3000));
    let direct = Flow { route: Route::Direct, producers: 3, sizes_bytes: vec![300_000], ..flow() };
    let outcome = check_flow(&site, "counted", direct, Span::Count(100));
    assert_eq!(outcome.account.unwrap().sent, 100);
    site.stop();
}

#[test]
fn a_paced_flow_has_its_rate() {
    let site = Site::start();
    let paced = Flow { producers: 2, rate: Some(500.0), window: Some(100), ..Flow::default() };
    let span = Span::Time { warm_up: Duration::from_millis(200), observed: Duration::from_secs(1) };
    let outcome = check_flow(&site, "paced", paced, span);
    let published = figure(&outcome, "published");
    assert!((800.0..1100.0).contains(&published), "{published}");
    site.stop();
}

#[test]
fn a_backlog_is_filled_then_drained() {
    let site = Site::start();
    let flow =
        Flow { settle: Settle::Every { messages: 10, prefetch: 100 }, window: Some(100), ..Flow::default() };
    let outcome = site.run(&Plan::Backlog(flow), Span::Count(60_000)).unwrap();
    let account = outcome.account.unwrap();
    assert!(account.is_clean() && account.received == 60_000 && account.confirmed == 60_000, "{account:?}");
    assert!(figure(&outcome, "filled") > 0.0 && figure(&outcome, "drained") > 0.0 && site.is_clean());
    site.stop();
}

#[test]
fn calls_are_answered() {
    let site = Site::start();
    for (direct_reply_to, rate) in [(false, None), (true, None), (false, Some(200.0))] {
        let calls = Calls { callers: 2, responders: 2, in_flight: 8, rate, size_bytes: 100, direct_reply_to };
        let outcome = site.run(&Plan::Calls(calls), BRIEFLY).unwrap();
        let (per_second, account) = (figure(&outcome, "calls"), outcome.account.unwrap());
        assert!(per_second > 10.0 && figure(&outcome, "answer p50") > 0.0);
        assert!(account.is_clean() && account.received == account.sent, "{account:?}");
        assert!(rate.is_none_or(|rate| per_second < 2.0 * rate * 1.2), "{per_second}");
        assert!(site.is_clean());
    }
    site.stop();
}

#[test]
fn calls_that_nobody_answers_are_lost() {
    let site = Site::start();
    // Another consumer takes a request and keeps it.
    let calls = Calls {
        callers: 1,
        responders: 1,
        in_flight: 2,
        rate: Some(100.0),
        size_bytes: 10,
        direct_reply_to: false,
    };
    let mut thief = Connection::connect(&site.target).unwrap();
    let mut stolen = false;
    let run = Run {
        target: &site.target,
        broker: None,
        prefix: PREFIX,
        span: BRIEFLY,
        cancel: &AtomicBool::new(false),
        watch: &mut |_| {
            if !std::mem::replace(&mut stolen, true) {
                let queue = format!("{PREFIX}.requests");
                thief.consume(queue.as_bytes(), Acks::Manual { prefetch: 1 }).unwrap();
            }
        },
    };
    let account = run.execute(&Plan::Calls(calls)).unwrap().account.unwrap();
    assert!((1..=2).contains(&account.lost) && !account.is_clean(), "{account:?}");
    assert_eq!(account.sent, account.received + account.lost);
    site.stop();
}

#[test]
fn things_come_and_go() {
    let site = Site::start();
    for cycle in [Cycle::Connection, Cycle::Channel, Cycle::Declare] {
        let outcome = site.run(&Plan::Churn(Churn { cycle, connections: 2 }), BRIEFLY).unwrap();
        assert!(outcome.figures[0].value > 5.0 && figure(&outcome, "cycle p50") > 0.0, "{cycle:?}");
        assert!(site.is_clean());
    }
    let outcome = site.run(&Plan::Hold { connections: 20 }, BRIEFLY).unwrap();
    assert!(figure(&outcome, "opened") > 5.0);
    site.stop();
}

#[test]
fn what_a_queue_drops_is_lost() {
    let site = Site::start();
    let arguments = vec![("x-message-ttl".to_owned(), Argument::Number(0))];
    let flow = Flow {
        arguments,
        rate: Some(1000.0),
        settle: Settle::Every { messages: 1, prefetch: 1 },
        ..Flow::default()
    };
    let outcome = site.run(&Plan::Flow(flow), BRIEFLY).unwrap();
    let account = outcome.account.unwrap();
    assert!(account.sent > 0 && account.received + account.lost == account.sent, "{account:?}");
    site.stop();
}

#[test]
fn refusals_say_why_and_leave_nothing() {
    let site = Site::start();
    let arguments = vec![("x-max-length".to_owned(), Argument::Text("many".to_owned()))];
    let flow = Flow { route: Route::Direct, arguments, ..Flow::default() };
    let error = site.run(&Plan::Flow(flow), BRIEFLY).err().unwrap();
    assert!(matches!(error, Error::Refused(406, _)), "{error}");
    assert!(site.is_clean());
    let stranger = Target::parse(&site.broker.url().replace("guest:guest", "guest:wrong")).unwrap();
    let error = Connection::connect(&stranger).err().unwrap();
    assert!(matches!(error, Error::Refused(403, _)), "{error}");
    site.stop();
}
