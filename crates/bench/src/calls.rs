//! Callers and responders. Without a rate a caller sends the next request when an answer comes, so a slow broker is asked
//! less often: these latencies are those of a closed loop, as callers who wait see them.

use crate::caller::Caller;
use crate::connection::{Acks, Connection};
use crate::crew::finish;
use crate::figure::Figure;
use crate::load::Histogram;
use crate::observe::Phase;
use crate::outcome::{Account, Kind, Latency, Outcome};
use crate::pacer::Pacer;
use crate::plan::{Calls, Span};
use crate::rpc;
use crate::run::Run;
use crate::stage::Stage;
use crate::topology::declare_queue;
use crate::{Error, Result};
use std::thread;
use std::time::Duration;

/// Octets of a frame beside its payload.
const FRAME_OVERHEAD: usize = 8;
const PREFETCH: u16 = 500;

pub(crate) fn run(run: &mut Run<'_>, plan: &Calls) -> Result<Outcome> {
    let mut control = Connection::connect(run.target)?;
    let queue = format!("{}.requests", run.prefix);
    declare_queue(&mut control, &queue, false, &[])?;
    let outcome = load(run, plan, &queue);
    let removed = control.delete_queue(&queue).and_then(|()| control.close());
    let outcome = outcome?;
    removed.map(|()| outcome)
}

fn load(run: &mut Run<'_>, plan: &Calls, queue: &str) -> Result<Outcome> {
    let mut responders = Vec::new();
    for _ in 0..plan.responders {
        let mut connection = Connection::connect(run.target)?;
        connection.consume(queue.as_bytes(), Acks::Manual { prefetch: PREFETCH })?;
        responders.push(connection);
    }
    let callers = (0..plan.callers).map(|_| Connection::connect(run.target)).collect::<Result<Vec<_>>>()?;
    let caller = Caller {
        queue,
        in_flight: plan.in_flight,
        size_bytes: plan.size_bytes,
        direct_reply_to: plan.direct_reply_to,
    };
    check_frame(&callers, plan)?;
    let span = run.span;
    let stage = &Stage::new();
    let mut observer = run.observer(stage);
    thread::scope(|scope| {
        let responding: Vec<_> = responders
            .into_iter()
            .map(|connection| {
                scope.spawn(|| {
                    stage.act(|| rpc::respond(connection, &stage.counters).map(|()| Histogram::default()))
                })
            })
            .collect();
        let start_ns = stage.now_ns();
        let calling: Vec<_> = (0..plan.callers)
            .zip(callers)
            .map(|(number, connection)| {
                let share = f64::from(number) / f64::from(plan.callers);
                let pacer = plan.rate.map(|rate| Pacer::new(rate, start_ns, share));
                stage.add_producer();
                scope.spawn(move || stage.act(|| caller.run(connection, pacer, stage)))
            })
            .collect();
        let (warm_up, observed) = times(span);
        observer.observe(Phase::WarmUp, warm_up);
        stage.record();
        let seen = observer.observe(Phase::Measuring, observed);
        stage.end_recording();
        let is_drained = observer.drain(1);
        stage.stop();
        let answers = Latency { kind: Kind::Answer, histogram: finish(calling)? };
        finish(responding)?;
        let mut figures = vec![Figure::higher("calls", "call/s", seen.received / seen.seconds)];
        figures.extend(answers.figures());
        figures.extend(Outcome::broker_figures(&seen, seen.received, "us/call"));
        Ok(Outcome {
            figures,
            samples: seen.samples,
            latencies: vec![answers],
            account: Some(Account::of(stage, 1, is_drained)),
            generator: seen.generator,
            interrupted: observer.is_called_off(),
        })
    })
}

/// Both ends read bodies of one frame only.
fn check_frame(callers: &[Connection], plan: &Calls) -> Result<()> {
    match callers.iter().any(|caller| caller.frame_max() < plan.size_bytes + FRAME_OVERHEAD) {
        true => Err(Error::Plan("the broker's frame_max is smaller than a call's body".to_owned())),
        false => Ok(()),
    }
}

/// Warm-up and measured time. A plan that cannot be counted was refused before.
pub(crate) fn times(span: Span) -> (Duration, Duration) {
    match span {
        Span::Time { warm_up, observed } => (warm_up, observed),
        Span::Count(_) => (Duration::ZERO, Duration::ZERO),
    }
}
