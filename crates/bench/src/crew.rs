//! Producers and consumers with their connections, ready to begin: nothing of their start is measured.

use crate::Result;
use crate::connection::{Connection, write_long_string, write_table};
use crate::consume::{Consumer, consume};
use crate::flows::Unconfirmed;
use crate::frames::{id, write_method, write_short_string};
use crate::load::Histogram;
use crate::messages::Messages;
use crate::pacer::Pacer;
use crate::plan::{Flow, Route, Settle, Span};
use crate::produce::{Producer, produce};
use crate::stage::{Stage, joined};
use crate::target::Target;
use crate::topology::Topology;
use std::sync::atomic::AtomicBool;
use std::thread::{Scope, ScopedJoinHandle};

/// One thread's part of the load.
pub(crate) struct Member<T> {
    connection: Connection,
    lanes: Vec<T>,
}

/// Latencies of a thread.
pub(crate) type Handle<'scope> = ScopedJoinHandle<'scope, Result<Histogram>>;

/// Opens the connections of all producers.
pub(crate) fn producers(
    target: &Target,
    plan: &Flow,
    topology: &Topology,
    span: Span,
) -> Result<Vec<Member<Producer>>> {
    let numbers: Vec<u32> = (0..plan.producers).collect();
    let members = numbers.chunks(plan.channels.into()).map(|numbers| {
        let mut connection = Connection::connect(target)?;
        let mut lanes = Vec::new();
        for (channel, number) in (1..).zip(numbers) {
            open_channel(&mut connection, channel)?;
            if plan.window.is_some() {
                connection.select_confirms_on(channel)?;
            }
            let ways = topology.ways(plan, *number);
            lanes.push(Producer {
                messages: Messages::new(plan, channel, &ways, connection.frame_max()),
                pacer: None,
                unconfirmed: plan.window.map(|window| Unconfirmed::new(window as usize)),
                left: share(plan, span, *number),
            });
        }
        Ok(Member { connection, lanes })
    });
    members.collect()
}

/// Opens the connections of all consumers, and starts these.
pub(crate) fn consumers(target: &Target, plan: &Flow, topology: &Topology) -> Result<Vec<Member<Consumer>>> {
    let numbers: Vec<u32> = (0..plan.consumers).collect();
    let members = numbers.chunks(plan.channels.into()).map(|numbers| {
        let mut connection = Connection::connect(target)?;
        let mut starts = Vec::new();
        let mut lanes = Vec::new();
        for (channel, number) in (1..).zip(numbers) {
            open_channel(&mut connection, channel)?;
            if let Settle::Every { prefetch, .. } = plan.settle {
                connection.limit_prefetch(channel, prefetch)?;
            }
            write_consume(&mut starts, channel, topology.queue(plan, *number), plan);
            lanes.push(Consumer::new(plan.settle, flows(plan), reads_alone(plan, *number)));
        }
        connection.writer.send(&starts, &AtomicBool::new(false))?;
        Ok(Member { connection, lanes })
    });
    members.collect()
}

/// Starts a thread for each; a pace begins now.
pub(crate) fn start_producers<'scope>(
    scope: &'scope Scope<'scope, '_>,
    members: Vec<Member<Producer>>,
    rate: Option<f64>,
    stage: &'scope Stage,
) -> Vec<Handle<'scope>> {
    let all: usize = members.iter().map(|member| member.lanes.len()).sum();
    let now_ns = stage.now_ns();
    let mut number = 0;
    let mut handles = Vec::new();
    for Member { connection, mut lanes } in members {
        for lane in &mut lanes {
            lane.pacer = rate.map(|rate| Pacer::new(rate, now_ns, number as f64 / all as f64));
            number += 1;
        }
        stage.add_producer();
        handles.push(scope.spawn(move || stage.act(|| produce(connection, lanes, stage))));
    }
    handles
}

/// Starts a thread for each.
pub(crate) fn start_consumers<'scope>(
    scope: &'scope Scope<'scope, '_>,
    members: Vec<Member<Consumer>>,
    stage: &'scope Stage,
) -> Vec<Handle<'scope>> {
    let start = |member: Member<Consumer>| {
        scope.spawn(move || stage.act(|| consume(member.connection, member.lanes, stage)))
    };
    members.into_iter().map(start).collect()
}

/// All their latencies together; the first failure, if there is one, after all have ended.
pub(crate) fn finish(handles: Vec<Handle<'_>>) -> Result<Histogram> {
    let mut all = Histogram::default();
    let mut failure = None;
    for handle in handles {
        match joined(handle) {
            Ok(latencies) => all.merge(&latencies),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(all), Err)
}

/// How many deliveries there are of one message.
pub(crate) fn copies(plan: &Flow) -> u64 {
    let queues = if plan.route == Route::Fanout { plan.queues } else { 1 };
    let readers = match plan.consumers {
        0 => 0,
        consumers if plan.is_stream() => consumers / plan.queues,
        _ => 1,
    };
    u64::from(queues) * u64::from(readers)
}

fn open_channel(connection: &mut Connection, channel: u16) -> Result<()> {
    // The first one is open from the start.
    if channel > 1 { connection.open_channel(channel) } else { Ok(()) }
}

/// Numbers of flows: one for each producer, or for each queue if there are more of them.
fn flows(plan: &Flow) -> usize {
    plan.producers.max(plan.queues) as usize
}

fn reads_alone(plan: &Flow, consumer: u32) -> bool {
    let same_queue = (consumer % plan.queues..plan.consumers).step_by(plan.queues as usize);
    plan.is_stream() || same_queue.count() == 1
}

fn share(plan: &Flow, span: Span, producer: u32) -> u64 {
    match span {
        Span::Time { .. } => u64::MAX,
        Span::Count(count) => {
            let producers = u64::from(plan.producers);
            count / producers + u64::from(u64::from(producer) < count % producers)
        }
    }
}

/// Without an answer to wait for: deliveries may come before the next consumer of the connection is started.
fn write_consume(out: &mut Vec<u8>, channel: u16, queue: &str, plan: &Flow) {
    const NO_ACK: u8 = 0b10;
    const NO_WAIT: u8 = 0b1000;
    write_method(out, channel, id::BASIC_CONSUME, |out| {
        out.extend([0, 0]);
        write_short_string(out, queue.as_bytes());
        write_short_string(out, format!("bench-{channel}").as_bytes());
        out.push(if plan.settle == Settle::None { NO_ACK | NO_WAIT } else { NO_WAIT });
        write_table(out, |out| {
            if plan.is_stream() {
                write_short_string(out, b"x-stream-offset");
                write_long_string(out, b"first");
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_per_message() {
        let stream = ("x-queue-type".to_owned(), crate::plan::Argument::Text("stream".to_owned()));
        let check = |queues, consumers, route, arguments: &[_], expected| {
            let plan = Flow { queues, consumers, route, arguments: arguments.to_vec(), ..Flow::default() };
            assert_eq!(copies(&plan), expected, "{plan:?}");
        };
        check(1, 0, Route::Queue, &[], 0);
        check(1, 3, Route::Queue, &[], 1);
        check(4, 4, Route::Direct, &[], 1);
        check(10, 10, Route::Fanout, &[], 10);
        check(2, 6, Route::Queue, std::slice::from_ref(&stream), 3);
        check(2, 6, Route::Fanout, &[stream], 6);
    }

    #[test]
    fn a_count_is_shared_out() {
        let plan = Flow { producers: 3, ..Flow::default() };
        let shares: Vec<u64> = (0..3).map(|number| share(&plan, Span::Count(11), number)).collect();
        assert_eq!(shares, [4, 4, 3]);
    }

    #[test]
    fn who_shares_a_queue_sees_gaps() {
        let plan = Flow { queues: 2, consumers: 3, ..Flow::default() };
        assert_eq!([0, 1, 2].map(|number| reads_alone(&plan, number)), [false, true, false]);
    }
}
